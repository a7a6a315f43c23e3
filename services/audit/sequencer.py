"""Follows every event topic and makes each event a leaf: `python -m services.audit.sequencer`.

A process of its own, one per log; a second one started by mistake waits for the first to end.
Positions live in the log, so it joins no consumer group. While the log's storage fails it waits,
not ready (`storage`); anything else unexpected ends the process, and the next one settles what was
left half-way. Invariant: only an open log, held by its locks, is appended to, and it is closed
after the last append.
"""

import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from services.audit.entry import EntryMaker, event_id_of, key_event, same_event
from services.audit.logfolder import Event, LogFolder
from services.audit.ports import LogLocked
from services.audit.sequencing import Sequencing, decode_positions
from services.audit.settings import SequencerSettings
from services.audit.storage import RETRY_SECONDS, Faults
from services.runtime.consumer import Follower
from services.runtime.metrics import Metrics, Name
from services.runtime.parking import Parker
from services.runtime.placement import IDENTITY
from services.runtime.settings import load
from services.runtime.signals import stop_on_signals
from services.runtime.telemetry import HealthEndpoint, configure_logging, logger
from services.runtime.topics import EVENT_TOPICS, Topic

LOCK_RETRY_SECONDS: Final = 0.5
_LOG: Final = logger(__name__)

_GATHER_MS = 50  # shares fetches and fsyncs; an event of a quiet log waits this long


def sequence(
    settings: SequencerSettings, stop: threading.Event, topics: Sequence[Topic] = EVENT_TOPICS
) -> None:
    """Sequences the topics until `stop` is set; what was read by then is published. While the log's
    storage fails it waits, not ready.

    Raises:
        Exception: whatever else ended it; see `LogFolder.open`, `Log.append`, `Follower.run`.
    """
    metrics = Metrics("audit")
    ready = metrics.gauge(Name.READY)
    working = threading.Event()
    health = HealthEndpoint(settings.health_listen, metrics.registry, ready=working.is_set)
    health.start()
    faults = Faults(metrics)

    def serve() -> None:
        folder = open_log(settings.log_dir, settings.origin, stop)
        if folder is None:
            return
        faults.clear()
        try:
            working.set()
            ready.set(1)
            _LOG.info("sequencing", leaves=folder.log.checkpoint.size, health_port=health.port)
            _follow(settings, folder, metrics, _Halt(stop), topics)
        finally:
            working.clear()
            ready.set(0)
            folder.close()
            _LOG.info("stopped", leaves=folder.log.checkpoint.size)

    try:
        while not stop.is_set():
            try:
                serve()
            except Exception as error:
                # Opening the log again settles what was left half-way, once the disk lets it.
                if not faults.report(error):
                    raise
                stop.wait(RETRY_SECONDS)
    finally:
        health.stop()


class _Halt(threading.Event):
    """Ends one attempt: set by its failure, or with the whole process. Waits of the loop are short,
    so that it notices the latter soon."""

    def __init__(self, process: threading.Event) -> None:
        super().__init__()
        self._process = process

    def is_set(self) -> bool:
        return super().is_set() or self._process.is_set()


def open_log(root: Path, origin: str, stop: threading.Event) -> LogFolder | None:
    """The log, once no other sequencer holds it; None if `stop` came first."""
    waiting = False
    while not stop.is_set():
        try:
            return LogFolder.open(root, origin, event_id_of, same_event, key_event)
        except LogLocked:
            if not waiting:
                _LOG.warning("another sequencer holds the log; waiting for its end")
            waiting = True
            stop.wait(LOCK_RETRY_SECONDS)
    return None


def _follow(
    settings: SequencerSettings,
    folder: LogFolder,
    metrics: Metrics,
    stop: threading.Event,
    topics: Sequence[Topic],
) -> None:
    names = [topic.name for topic in topics]
    read = {partition for _, partition in decode_positions(folder.log.state)} - {IDENTITY}
    if not all(map(settings.has, read)):
        raise ValueError("the log has partitions of another group: its groups were changed")
    parker = Parker(settings.kafka_bootstrap, metrics)
    sequencing = Sequencing(
        folder, metrics, failed=stop.set, accept_void=settings.accept_void, parking=parker
    )
    follower: Follower[Event] = Follower(
        settings.kafka_bootstrap,
        names,
        EntryMaker(topics, parker),
        sequencing,
        parker,
        group=None,
        gather_ms=_GATHER_MS,
        mine=settings.has,
    )
    age = metrics.gauge(Name.UNSEQUENCED_AGE)
    started = time.time()
    # Since when the log is not known to hold everything: what has not been read may be this old.
    age.set_function(lambda: time.time() - (follower.fresh_at or started))
    try:
        follower.run(stop)
    finally:
        sequencing.close()


def main(topics: Sequence[Topic] = EVENT_TOPICS) -> None:
    """Until SIGTERM or SIGINT; exits with 1 after an error, which is logged."""
    settings = load(SequencerSettings)
    configure_logging("audit", settings.log_level)
    stop = stop_on_signals()
    try:
        sequence(settings, stop, topics)
    except Exception:
        _LOG.critical("sequencer failed", exc_info=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
