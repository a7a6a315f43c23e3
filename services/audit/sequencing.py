"""Appends what the consumer loop reads to the log: leaves and source positions in one step.

The loop's thread hands groups over and reads on; a thread of this module appends, so that reading
and fsyncs overlap and many small groups share one append. Refuses to reorder: groups are appended
in the order they came, whole. Invariant: a position handed to the log covers exactly the groups
appended with it or before it, so a crash at any moment only makes Kafka's records come again, and
the log knows repeats by their id.
"""

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from services.audit.entry import parked_event
from services.audit.logfolder import Event, LogFolder
from services.runtime.consumer import Position
from services.runtime.errors import contradicted
from services.runtime.metrics import Metrics, Name
from services.runtime.parking import Parking
from services.runtime.placement import lost
from services.runtime.record import Record

# One append is some ten fsyncs; a group waits this long for company. A quiet log publishes within
# 30 ms + one append (about 10 ms).
LINGER_SECONDS: Final = 0.03
# An append begins without waiting at this many events: 2 ms of hashing, 16 tiles and bundles.
FULL: Final = 2000
# Events that may wait: 5 full appends. Beyond it the loop stops reading: back-pressure.
MOST_WAITING: Final = 10_000

_Group = tuple[Sequence[tuple[Record, Event]], Mapping[Position, int]]


class Sequencing:
    """Sink of the consumer loop, over an open log. `close` it before the log.

    `_changed` guards everything that both threads touch: _groups, _count, _since, _busy,
    _closing and _failure. _positions is the appending thread's while it is busy, else the loop's.
    `failed` is called once, from the appending thread.
    """

    def __init__(
        self,
        folder: LogFolder,
        metrics: Metrics,
        failed: Callable[[], None] = lambda: None,
        *,
        accept_void: bool = False,
        parking: Parking | None = None,
        linger_seconds: float = LINGER_SECONDS,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._folder = folder
        self._failed = failed
        self._linger = linger_seconds
        self._wall = wall
        self._accept_void = accept_void
        self._parking = parking
        self._positions = decode_positions(folder.log.state)
        self._changed = threading.Condition()
        self._groups: deque[_Group] = deque()
        self._count = 0
        self._since = 0.0
        self._busy = False  # a group that was taken is not yet appended
        self._closing = False
        self._failure: BaseException | None = None
        self._leaves = metrics.counter(Name.LEAVES)
        self._repeats = metrics.counter(Name.REPEATS)
        self._batch = metrics.histogram(Name.BATCH_EVENTS)
        self._published = metrics.histogram(Name.PUBLISHED_SECONDS)
        self._size = metrics.gauge(Name.LOG_LEAVES)
        self._size.set(folder.log.checkpoint.size)
        self._thread = threading.Thread(target=self._run, name="sequencing", daemon=True)
        self._thread.start()

    def positions(self) -> Mapping[Position, int]:
        """What the log covers, once what was taken is appended."""
        with self._changed:
            self._changed.wait_for(lambda: not (self._groups or self._busy) or self._failure)
            self._raise()
            return dict(self._positions)

    def void(self, positions: Mapping[Position, str]) -> None:
        """See Sink. Events that Kafka lost before they were leaves are missing for good, which a
        person must know of (`accept_void`); a leaf that is read again is known by its id."""
        if not self._accept_void:
            raise lost(positions)
        with self._changed:
            for position in positions:
                self._positions.pop(position, None)

    def apply(
        self, items: Sequence[tuple[Record, Event]], positions: Mapping[Position, int]
    ) -> None:
        """Takes the group over. It is durable a moment later; till then Kafka still has it.

        Raises:
            Exception: what ended the appending thread. Nothing is taken any more.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._count < MOST_WAITING or self._failure)
            self._raise()
            if not self._groups:
                self._since = time.monotonic()
            self._groups.append((items, dict(positions)))
            self._count += len(items)
            self._changed.notify_all()

    def close(self) -> None:
        """Appends what was taken, then ends. Raises what ended the appending thread, if it did."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        self._raise()

    def _raise(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            while groups := self._take():
                self._append(groups)
        except BaseException as error:  # goes to the loop's thread, which ends the process
            with self._changed:
                self._failure = error
                self._changed.notify_all()
            self._failed()

    def _take(self) -> list[_Group]:
        """Waits for groups, and a little for more. None at all: it is time to end."""
        with self._changed:
            self._busy = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._groups or self._closing)
            self._busy = True
            self._changed.wait_for(
                lambda: self._count >= FULL or self._closing,
                timeout=max(self._since + self._linger - time.monotonic(), 0),
            )
            taken: list[_Group] = []
            events = 0
            while self._groups and events < FULL:
                taken.append(self._groups.popleft())
                events += len(taken[-1][0])
            self._count -= events
            self._changed.notify_all()
            return taken

    def _append(self, groups: Sequence[_Group]) -> None:
        events: list[Event] = []
        records: list[Record] = []
        oldest_ms: int | None = None
        for items, moved in groups:
            events += [event for _, event in items]
            records += [record for record, _ in items]
            self._positions.update(moved)
            if items:
                first = min(record.timestamp_ms for record, _ in items)
                oldest_ms = first if oldest_ms is None else min(first, oldest_ms)

        def contradicted_at(place: int) -> Event:
            if self._parking is not None:
                self._parking.park(records[place], contradicted())
            return parked_event(records[place], contradicted().reason)

        state = encode_positions(self._positions)
        appended = self._folder.append(events, state, contradicted_at)
        self._leaves.inc(appended.fresh)
        self._repeats.inc(len(events) - appended.fresh)
        self._batch.observe(len(events))
        self._size.set(appended.checkpoint.size)
        if oldest_ms is not None:
            self._published.observe(max(self._wall() - oldest_ms / 1000, 0))


def encode_positions(positions: Mapping[Position, int]) -> bytes:
    """The log's consumer state: JSON, topic -> partition -> next offset."""
    topics: dict[str, dict[str, int]] = {}
    for (topic, partition), offset in sorted(positions.items()):
        topics.setdefault(topic, {})[str(partition)] = offset
    return json.dumps({"positions": topics}, separators=(",", ":")).encode()


def decode_positions(state: bytes) -> dict[Position, int]:
    """What `encode_positions` encoded; a new log's empty state is no positions."""
    topics = json.loads(state)["positions"] if state else {}
    return {
        (topic, int(partition)): offset
        for topic, offsets in topics.items()
        for partition, offset in offsets.items()
    }
