"""`python -m services.router.records`: the one writer of calls' records. Wiring only.

Run one per cluster. It assigns itself all partitions of `router.calls.v1` and keeps its positions
in its own file; a second one on another folder would write the same records under the same ids.
"""

import contextlib
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from axbridge.router.v1.view_service_pb2_grpc import add_ViewServiceServicer_to_server

from services.router.callevents import CallEvents
from services.router.callfold import Fact
from services.router.propagation import ViewServicer
from services.router.publisher import KafkaPublisher
from services.router.recordstore import RecordStore
from services.router.settings import RecordsSettings
from services.router.writer import lock_folder, run_threads
from services.runtime.consumer import Follower
from services.runtime.errors import Retry
from services.runtime.keyring import FileKeyRing
from services.runtime.metrics import Metrics, Name
from services.runtime.parking import Parker
from services.runtime.sealing import PurgeSealer
from services.runtime.server import Options, ThreadedServer
from services.runtime.settings import load
from services.runtime.telemetry import HealthEndpoint, configure_logging

_REAP_SECONDS = 1.0
_GATHER_MS = 50  # a record is written this much after the end of its call


def main() -> None:
    """Follows call events and writes records until SIGTERM."""
    settings = load(RecordsSettings)
    configure_logging("router-records", settings.log_level)
    folder: Path = settings.data_dir / "records"
    lock_folder(folder)
    metrics = Metrics("router")
    bootstrap = settings.kafka_bootstrap
    parker = Parker(bootstrap, metrics)
    events = CallEvents(PurgeSealer(FileKeyRing(settings.keyring_dir)))
    store = RecordStore(
        folder,
        events,
        KafkaPublisher(bootstrap),
        settings.records_topic,
        abandon_ms=int(settings.records_abandon_after_seconds * 1000),
        accept_void=settings.records_accept_void,
        parking=parker,
    )
    follower = Follower(
        bootstrap,
        [settings.calls_topic],
        events.decode,
        store,
        parker,
        group=None,
        gather_ms=_GATHER_MS,
    )
    health = HealthEndpoint(
        settings.records_health_listen, metrics.registry, lambda: follower.fresh_at > 0
    )
    health.start()
    views = _views(settings, metrics)
    try:
        run_threads(None, {"calls": follower.run, "reaper": _reaper(store, follower, metrics)})
    finally:
        if views is not None:
            views.drain()
        health.stop()
        store.close()


def _views(settings: RecordsSettings, metrics: Metrics) -> ThreadedServer | None:
    """Answers operators, where it is to."""
    if settings.records_listen is None:
        return None
    options = replace(Options.of(settings, threads=2), listen=settings.records_listen)
    server = ThreadedServer(options, metrics)
    servicer = ViewServicer(settings.kafka_bootstrap, settings.routes_topic, settings.views_topic)
    server.add(add_ViewServiceServicer_to_server, servicer)
    server.start()
    return server


def _reaper(
    store: RecordStore, follower: Follower[Fact | None], metrics: Metrics
) -> Callable[[threading.Event], None]:
    records, orphans = metrics.counter(Name.CALL_RECORDS), metrics.counter(Name.CALL_ORPHANS)

    def reap(stop: threading.Event) -> None:
        seen = [0, 0]
        while not stop.wait(_REAP_SECONDS):
            if follower.fresh_at:
                with contextlib.suppress(Retry):  # Kafka is away; what is due stays due
                    store.reap(follower.fresh_at)
            records.inc(store.records - seen[0])
            orphans.inc(store.orphans - seen[1])
            seen = [store.records, store.orphans]

    return reap


if __name__ == "__main__":
    main()
