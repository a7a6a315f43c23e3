"""`python -m services.router.push`: tells platforms that cannot read Kafka of their calls and
bindings. Wiring only. `… push redrive TENANT` takes up what was parked.

Run one per cluster: it reads all partitions and keeps queue and positions in its own folder; a
second one on another folder would send everything twice.
"""

import argparse

from services.router.pushevents import TOPICS, Renderer, decode
from services.router.pushqueue import PushQueue
from services.router.pushsender import Endpoints, Sender
from services.router.settings import PushSettings
from services.router.writer import lock_folder, run_threads
from services.runtime.clock import SystemClock
from services.runtime.consumer import Follower
from services.runtime.keyring import FileKeyRing
from services.runtime.metrics import Metrics
from services.runtime.parking import Parker
from services.runtime.sealing import PurgeSealer
from services.runtime.settings import load
from services.runtime.telemetry import HealthEndpoint, configure_logging

_GATHER_MS = 50


def main() -> None:
    """Follows and sends until SIGTERM, or redrives and ends."""
    parser = argparse.ArgumentParser(prog="python -m services.router.push")
    parser.add_argument("action", nargs="?", choices=("run", "redrive"), default="run")
    parser.add_argument("tenant", nargs="?")
    arguments = parser.parse_args()
    if (arguments.action == "redrive") != (arguments.tenant is not None):
        parser.error("redrive takes a tenant, run takes none")
    settings = load(PushSettings)
    configure_logging("router-push", settings.log_level)
    folder, clock = settings.data_dir / "push", SystemClock()
    endpoints = Endpoints(settings.push_endpoints)
    if arguments.action == "redrive":
        queue = PushQueue(folder / "push.sqlite", lambda _: True, clock.epoch_ms)
        print(f"{queue.redrive(arguments.tenant)} events will be sent again")
        queue.close()
        return
    lock_folder(folder)
    queue = PushQueue(folder / "push.sqlite", lambda t: endpoints.of(t) is not None, clock.epoch_ms)
    metrics, bootstrap = Metrics("router"), settings.kafka_bootstrap
    render = Renderer(PurgeSealer(FileKeyRing(settings.keyring_dir)))
    sender = Sender(queue, endpoints, render, clock, metrics)
    follower = Follower(
        bootstrap, TOPICS, decode, queue, Parker(bootstrap), group=None, gather_ms=_GATHER_MS
    )
    health = HealthEndpoint(
        settings.push_health_listen, metrics.registry, lambda: follower.fresh_at > 0
    )
    health.start()
    try:
        run_threads(None, {"events": follower.run, "sender": sender.run})
    finally:
        health.stop()
        queue.close()


if __name__ == "__main__":
    main()
