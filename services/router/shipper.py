"""Brings every journal of the pod to `router.calls.v1`, and last callers to `router.callers.v1`;
also those of workers that died.

Refuses to lose or to wait for one: what Kafka has not acknowledged is read and produced again, so
an event may stand on the topic twice, under one id (`<journal>-<sequence>`).

Invariant: a position is stored, and a segment deleted, only after all its events before it were
acknowledged. Crash windows: before the ack or before the position is stored, the events are sent
again; after a segment's deletion its position is only a line that is dropped.
"""

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from services.router.packed import Unreadable
from services.router.publisher import Publishing
from services.router.segments import (
    CALLED,
    KINDS,
    LONGEST_BODY,
    Item,
    Segment,
    list_segments,
    lock_path,
    read,
    total_bytes,
)
from services.runtime.envelope import Envelope
from services.runtime.publisher import Outgoing
from services.runtime.telemetry import logger
from services.runtime.topics import partition_of

_LOG: Final = logger(__name__)
_STRETCH: Final = 2 * LONGEST_BODY  # read at once: any frame fits
_IDLE_SECONDS: Final = 0.02
_LAST_SECONDS: Final = 5.0  # to ship the rest when stopping


class Shipper:
    """Follows the folder on the thread that calls `run`."""

    def __init__(
        self,
        publisher: Publishing,
        folder: Path,
        topic: str,
        value_of: Callable[[str, Item], bytes],
        callers_topic: str = "",
    ) -> None:
        """`value_of(journal, item)` makes the event, or raises Unreadable."""
        self._folder, self._topic, self._value_of = folder, topic, value_of
        self._callers_topic = callers_topic or topic
        folder.mkdir(parents=True, exist_ok=True)
        self._publisher = publisher
        self._positions = self._load()
        self._foreign: set[Path] = set()
        self.shipped = 0  # events acknowledged since the start
        self.damaged = 0  # octets that no event could be read from

    def run(self, stop: threading.Event) -> None:
        """Ships until `stop`, then for at most 5 s what is left.

        Raises:
            KafkaException: the producer is broken for good: start the process anew.
        """
        while not stop.is_set():
            if not self.ship():
                stop.wait(_IDLE_SECONDS)
        until = time.monotonic() + _LAST_SECONDS
        while self.ship() and time.monotonic() < until:
            pass

    def waiting_bytes(self) -> int:
        """Octets that are in the folder and not acknowledged, or not yet deleted."""
        return total_bytes(segment.path for segment in list_segments(self._folder))

    def ship(self) -> bool:
        """One round over all segments; whether it moved anything."""
        topics = (self._topic, self._callers_topic)
        partitions = {topic: self._publisher.partitions(topic) for topic in topics}
        if not all(partitions.values()):
            return False
        segments = list_segments(self._folder)
        newest = {segment.journal: segment.number for segment in segments}
        moved: dict[str, int] = {}
        done: list[Segment] = []
        batch: list[Outgoing] = []
        damaged, unfinished = 0, ""
        for segment in segments:
            at = moved[segment.path.name] = self._positions.get(segment.path.name, 0)
            if segment.journal == unfinished:  # a journal's events keep their order
                continue
            # Asked before reading: what is closed now cannot grow between reading and deleting.
            closed = segment.number < newest[segment.journal] or not self._alive(segment.journal)
            data = _stretch(segment.path, at)
            got = read(data, at, closed=closed)
            if got.foreign:  # of a router before or after an upgrade: kept for that one
                if segment.path not in self._foreign:
                    self._foreign.add(segment.path)
                    _LOG.warning("journal segment of another format", segment=segment.path.name)
                unfinished = segment.journal
                continue
            for item in got.items:
                try:
                    batch.append(self._outgoing(segment.journal, item, partitions))
                except Unreadable:  # altered, or another ring's: that one may still come
                    damaged += len(item.value)
                    _set_aside(segment.path)
            damaged += got.damaged
            if not closed or len(data) == _STRETCH:
                # No frame is as long as half a stretch, so one without any holds none.
                lost = LONGEST_BODY if closed and got.next == at else 0
                moved[segment.path.name], damaged = got.next + lost, damaged + lost
                unfinished = segment.journal
            else:
                damaged += len(data[got.next - at :].rstrip(b"\0"))  # zeros were set aside only
                done.append(segment)
        if batch and not self._publisher.publish(batch):
            return False
        self.shipped += len(batch)
        self._note_damage(damaged)
        for segment in done:
            segment.path.unlink(missing_ok=True)
            del moved[segment.path.name]
        self._drop_locks({s.journal for s in segments if s not in done})
        if moved != self._positions:
            self._positions = moved
            self._store()
        return bool(batch or done)

    def _outgoing(self, journal: str, item: Item, partitions: Mapping[str, int]) -> Outgoing:
        value = self._value_of(journal, item)
        envelope = Envelope(
            event_id=f"{journal}-{item.sequence}",
            type=KINDS[item.kind],
            source=f"router/{journal}",
            time_ms=item.time_ms,
            sequence=item.sequence,
        )
        subject, topic = item.key.decode("ascii", "replace"), self._topic
        if item.kind == CALLED:  # all about a middle number is on the number's partition
            subject, topic = subject.partition("/")[0], self._callers_topic
        partition = partition_of(subject, partitions[topic])
        return Outgoing(topic, partition, item.key, value, envelope.headers())

    def _alive(self, journal: str) -> bool:
        """Whether a process holds the journal; the kernel lets go of it whatever kills it."""
        try:
            file = os.open(lock_path(self._folder, journal), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            return False
        finally:
            os.close(file)

    def _drop_locks(self, present: set[str]) -> None:
        """Removes the lock files of dead journals that have no segment left."""
        for path in self._folder.glob("*.lock"):
            journal = path.name.removesuffix(".lock")
            if journal not in present and not self._alive(journal):
                path.unlink(missing_ok=True)

    def _note_damage(self, octets: int) -> None:
        if octets:  # a torn tail was never answered; anything before it is a failing disk
            self.damaged += octets
            _LOG.warning("journal octets skipped", octets=octets)

    def _load(self) -> dict[str, int]:
        positions = {}
        try:
            for line in (self._folder / "shipped").read_text().splitlines():
                name, _, at = line.partition(" ")
                positions[name] = int(at)
        except (OSError, ValueError):
            return {}  # from the start of every segment: repeats are harmless
        return positions

    def _store(self) -> None:
        """Not fsynced: a lost position only makes events be sent again."""
        text = "".join(f"{name} {at}\n" for name, at in sorted(self._positions.items()))
        new = self._folder / "shipped.new"
        new.write_text(text)
        os.replace(new, self._folder / "shipped")


def _set_aside(path: Path) -> None:
    """Gives the segment a second name that no shipper deletes: a person can ship it once the right
    key ring is there."""
    with contextlib.suppress(FileExistsError):
        os.link(path, path.with_name(f"{path.name}.unreadable"))
        _LOG.error("journal segment set aside", segment=path.name)


def _stretch(path: Path, at: int) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            file.seek(at)
            return file.read(_STRETCH) or b""
    except FileNotFoundError:
        return b""
