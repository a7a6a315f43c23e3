"""`python -m services.router.writer`: the pod's one writer of the view and one shipper of journals.

Workers do not need it to answer: while it is away the view ages and the journals grow. Refuses to
run twice on one folder. Invariant: it ends, with an error, as soon as one of its threads does, so
that the supervisor starts it anew; nothing half-alive remains.
"""

import fcntl
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from confluent_kafka import KafkaException

from services.router.events import JournalEvents
from services.router.opener import CallerSealer
from services.router.propagation import Teller
from services.router.publisher import KafkaPublisher
from services.router.settings import RouterSettings
from services.router.shipper import Shipper
from services.router.store import Applied, ViewWriter
from services.router.subscriber import decode_caller, decode_denial, decode_key, decode_route
from services.router.supervised import end_with_supervisor
from services.runtime.clock import SystemClock
from services.runtime.consumer import Follower
from services.runtime.errors import AxbridgeError, Retry
from services.runtime.ids import TimeOrderedIds
from services.runtime.keyring import EvidenceKeys, FileKeyRing
from services.runtime.metrics import Metrics, Name
from services.runtime.parking import Parker
from services.runtime.record import Record
from services.runtime.settings import load
from services.runtime.signals import stop_on_signals
from services.runtime.telemetry import configure_logging, logger

_LOG: Final = logger(__name__)
_TICK_SECONDS: Final = 1.0
_TELL_MS: Final = 2000  # then a word about the view is too old to be worth telling
_FIRST_TICK_SECONDS: Final = 0.1  # until the view was fresh once, so that the pod is ready early


def main() -> None:
    """Writes and ships until SIGTERM."""
    settings = load(RouterSettings)
    configure_logging("router", settings.log_level)
    run_threads(settings, _threads(settings))


def _threads(settings: RouterSettings) -> dict[str, Callable[[threading.Event], None]]:
    lock_folder(settings.data_dir)
    metrics = Metrics("router")
    bootstrap = settings.kafka_bootstrap
    parker = Parker(bootstrap, metrics)
    view = ViewWriter(settings.view_dir, parking=parker)
    if view.rebuilt_because:
        _LOG.warning("view rebuilt from Kafka", because=view.rebuilt_because)

    decoders: dict[str, Callable[[Record], Applied]] = {
        settings.routes_topic: decode_route,
        settings.keys_topic: decode_key,
        settings.denials_topic: decode_denial,
        settings.callers_topic: decode_caller,
    }

    def decode(record: Record) -> Applied:
        return decoders[record.topic](record)

    follower = Follower(bootstrap, list(decoders), decode, view, parker, group=None)
    keyring = FileKeyRing(settings.keyring_dir)
    public = EvidenceKeys.load_public(settings.evidence_public_key)
    events = JournalEvents(keyring, CallerSealer(keyring, public))
    shipper = Shipper(
        KafkaPublisher(bootstrap), settings.journal_dir, settings.calls_topic, events.value,
        settings.callers_topic,
    )  # fmt: skip
    shipped = metrics.counter(Name.JOURNAL_SHIPPED)
    damaged = metrics.counter(Name.JOURNAL_DAMAGED)

    def tick(stop: threading.Event) -> None:
        seen = [0, 0]
        while not stop.wait(_TICK_SECONDS if follower.fresh_at else _FIRST_TICK_SECONDS):
            view.tick(follower.fresh_at)
            shipped.inc(shipper.shipped - seen[0])
            damaged.inc(shipper.damaged - seen[1])
            seen = [shipper.shipped, shipper.damaged]

    def follow(stop: threading.Event) -> None:
        follower.run(stop)
        for each in (ticked, told):
            each.wait(5)
        view.close()

    ticked, told = threading.Event(), threading.Event()
    teller = Teller(
        KafkaPublisher(bootstrap, _TELL_MS), settings.views_topic, settings.id, view,
        lambda: follower.fresh_at, SystemClock(), TimeOrderedIds(),
    )  # fmt: skip
    return {
        "view": follow,
        "tick": _then(ticked, tick),
        "told": _then(told, teller.run),
        "shipper": shipper.run,
    }


def _then(
    ended: threading.Event, body: Callable[[threading.Event], None]
) -> Callable[[threading.Event], None]:
    """The body, and word that it needs the view no more."""

    def run(stop: threading.Event) -> None:
        try:
            body(stop)
        finally:
            ended.set()

    return run


def run_threads(
    settings: RouterSettings | None, work: dict[str, Callable[[threading.Event], None]]
) -> None:
    """Runs each in a thread of its own until SIGTERM, or until one of them fails: then exits 1."""
    stop, failed = stop_on_signals(), threading.Event()

    def guarded(name: str, body: Callable[[threading.Event], None]) -> None:
        try:
            body(stop)
        except Retry:  # stopped while an effect waited for Kafka; its offset is not stored
            if not stop.is_set():
                failed.set()
        except BaseException as error:
            _LOG.error("thread failed", thread=name, type=type(error).__name__, error=_shown(error))
            failed.set()
        finally:
            stop.set()

    threads = [
        threading.Thread(target=guarded, args=(name, body), name=name)
        for name, body in work.items()
    ]
    for thread in threads:
        thread.start()
    if settings is not None and settings.supervised:
        end_with_supervisor()
    while any(thread.is_alive() for thread in threads):
        for thread in threads:
            thread.join(0.2)
    if failed.is_set():
        raise SystemExit(1)


def lock_folder(folder: Path) -> None:
    """Holds the folder for the life of this process; waits for a predecessor that is ending."""
    folder.mkdir(parents=True, exist_ok=True)
    file = os.open(folder / "writer.lock", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(file, fcntl.LOCK_EX)  # the descriptor is kept open on purpose: exit releases it


def _shown(error: BaseException) -> str:
    """Texts of Kafka's and our own errors name topics and codes; others might quote a value."""
    return str(error) if isinstance(error, KafkaException | AxbridgeError) else ""


if __name__ == "__main__":
    main()
