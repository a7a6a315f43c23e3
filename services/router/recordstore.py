"""The calls' states and the records on their way, in one LMDB file of the records process.

Each batch of events is one transaction: states, due times, records to be published (the outbox) and
input positions. Then the outbox is published and emptied, before more input is taken.

Crash windows: before the commit nothing happened; between commit and acknowledgement the outbox is
published at the next start; between acknowledgement and emptying it is published again, octet for
octet and under the same ids. Invariant: an input position never passes a record that is neither in
the outbox nor acknowledged.
"""

import struct
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import lmdb

from services.router.callevents import CallEvents, fact_of, split_key
from services.router.callfold import (
    CallState,
    DecisionFact,
    Fact,
    ProgressFact,
    contradicts,
    due_record,
    fold,
    record_event_id,
    record_of,
)
from services.router.publisher import Publishing
from services.runtime.clock import Clock, SystemClock
from services.runtime.envelope import Envelope
from services.runtime.errors import Retry, contradicted
from services.runtime.parking import Parking
from services.runtime.placement import lost
from services.runtime.publisher import Outgoing
from services.runtime.record import Record
from services.runtime.topics import partition_of

_CALLS, _DUE, _OUTBOX, _POSITIONS = b"calls", b"due", b"outbox", b"positions"
_STATE: Final = struct.Struct(">BQI?16s")  # format, due ms, written, abandoned, digest; then facts
_FORMAT: Final = 1
_KEEP_MS: Final = 48 * 3600 * 1000  # finished calls, for late and repeated events
_TYPE: Final = "axbridge.router.v1.CallRecorded"
_ANY_DUE: Final = 0  # of a state that has no due entry yet


class RecordStore:
    """A `consumer.Sink` of call events. Safe to share between the follower and the reaper."""

    def __init__(
        self,
        folder: Path,
        events: CallEvents,
        publisher: Publishing,
        topic: str,
        *,
        abandon_ms: int = 25 * 3600 * 1000,
        accept_void: bool = False,
        parking: Parking | None = None,
        clock: Clock | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._env = lmdb.open(
            str(folder / "records.lmdb"), subdir=False, max_dbs=4, map_size=256 * 1024 * 1024
        )
        self._db = {name: self._env.open_db(name) for name in (_CALLS, _DUE, _OUTBOX, _POSITIONS)}
        self._events, self._publisher, self._topic = events, publisher, topic
        self._abandon_ms, self._clock = abandon_ms, clock or SystemClock()
        self._accept_void = accept_void
        self._parking = parking
        self._lock = threading.Lock()
        self.records = 0  # written since the start
        self.orphans = 0

    def positions(self) -> dict[tuple[str, int], int]:
        """See Sink."""
        with self._lock, self._env.begin(db=self._db[_POSITIONS]) as txn:
            return {
                (key[:-4].decode(), int.from_bytes(key[-4:])): int.from_bytes(value)
                for key, value in txn.cursor()
            }

    def void(self, positions: Mapping[tuple[str, int], str]) -> None:
        """See Sink. Calls that are finished and forgotten would be recorded a second time, and
        what was lost is recorded never: so a person decides (`accept_void`)."""
        if not self._accept_void:
            raise lost(positions)

        def forget(txn: Any) -> None:
            for topic, partition in positions:
                txn.delete(topic.encode() + partition.to_bytes(4), db=self._db[_POSITIONS])

        with self._lock:
            self._write(forget)

    def apply(
        self, items: Sequence[tuple[Record, Fact | None]], positions: Mapping[tuple[str, int], int]
    ) -> None:
        """See Sink. Raises Retry while records cannot be published."""

        def change(txn: Any) -> None:
            for record, fact in items:
                place = record.topic.encode() + record.partition.to_bytes(4)
                stored = int.from_bytes(txn.get(place, db=self._db[_POSITIONS]) or b"")
                if fact is not None and record.offset >= stored:
                    due, state = self._load(txn, record.key)
                    if contradicts(state, fact):
                        self._park(record)
                        continue
                    self._settle(txn, record.key, due, fold(state, fact))
            for (topic, partition), offset in positions.items():
                place = topic.encode() + partition.to_bytes(4)
                txn.put(place, offset.to_bytes(8), db=self._db[_POSITIONS])

        with self._lock:
            self._drain()  # what a crash left, before it could grow
            self._write(change)
            self._drain()

    def _park(self, record: Record) -> None:
        if self._parking is None:
            raise contradicted()
        self._parking.park(record, contradicted())  # before the position moves past it

    def reap(self, fresh_at: float, limit: int = 1000) -> int:
        """Closes connected calls without an end and forgets old ones; how many were due.

        `fresh_at` (seconds) is a moment before which every event on the topic has been applied, so
        replaying an old topic abandons nobody whose end is still to be read.
        """
        until = int(fresh_at * 1000)
        reaped = 0

        def change(txn: Any) -> None:
            nonlocal reaped
            reaped = 0
            with txn.cursor(db=self._db[_DUE]) as cursor:
                found = [
                    place
                    for place, _ in zip(cursor.iternext(values=False), range(limit), strict=False)
                    if int.from_bytes(place[:8]) <= until
                ]
            for place in found:
                self._reap_one(txn, place)
            reaped = len(found)

        with self._lock:
            self._drain()
            self._write(change)
            self._drain()
        return reaped

    def _reap_one(self, txn: Any, place: bytes) -> None:
        key = place[8:]
        due, state = self._load(txn, key)
        if state.decision is not None and record_of(state) is None:
            abandoned = CallState(state.decision, state.progress, True, state.written, state.digest)
            self._settle(txn, key, due, abandoned)
            return
        txn.delete(place, db=self._db[_DUE])
        txn.delete(key, db=self._db[_CALLS])
        if state.decision is None:
            self.orphans += 1

    def _settle(self, txn: Any, key: bytes, due: int, state: CallState) -> None:
        """Writes the record that is due, the state, and when it is to be looked at again."""
        state, record = due_record(state)
        carrier, call_id = split_key(key)
        if record is not None and state.decision is not None:
            value = self._events.encode(carrier, call_id, state.written, state.decision, record)
            event_id = record_event_id(carrier, call_id, record.call_ms, state.written)
            self._enqueue(txn, key, event_id, state.written, value)
        if record_of(state) is None and state.decision is not None:
            wanted = state.decision.time_ms + self._abandon_ms
        else:
            wanted = max(fact.time_ms for fact in state.facts()) + self._abandon_ms + _KEEP_MS
        if due != wanted:
            txn.delete(due.to_bytes(8) + key, db=self._db[_DUE])
            txn.put(wanted.to_bytes(8) + key, b"", db=self._db[_DUE])
        txn.put(key, _packed(wanted, state), db=self._db[_CALLS])

    def _enqueue(self, txn: Any, key: bytes, event_id: str, sequence: int, value: bytes) -> None:
        with txn.cursor(db=self._db[_OUTBOX]) as cursor:
            last = int.from_bytes(cursor.key()) if cursor.last() else 0
        head = struct.pack(">QIHH", self._clock.epoch_ms(), sequence, len(event_id), len(key))
        entry = head + event_id.encode() + key + value
        txn.put((last + 1).to_bytes(8), entry, db=self._db[_OUTBOX])

    def _drain(self) -> None:
        while True:
            with self._env.begin(db=self._db[_OUTBOX]) as txn:
                entries = [entry for entry, _ in zip(txn.cursor(), range(1000), strict=False)]
            if not entries:
                return
            partitions = self._publisher.partitions(self._topic)
            if not partitions:
                raise Retry("LOG_UNAVAILABLE")
            if not self._publisher.publish([self._outgoing(v, partitions) for _, v in entries]):
                raise Retry("LOG_UNAVAILABLE")
            self._write(
                lambda txn: [txn.delete(place, db=self._db[_OUTBOX]) for place, _ in entries]  # noqa: B023
            )
            self.records += len(entries)

    def _outgoing(self, entry: bytes, partitions: int) -> Outgoing:
        time_ms, sequence, id_length, key_length = struct.unpack_from(">QIHH", entry)
        at = struct.calcsize(">QIHH")
        event_id = entry[at : at + id_length].decode()
        key = entry[at + id_length : at + id_length + key_length]
        envelope = Envelope(event_id, _TYPE, "router/records", time_ms, version=sequence)
        value = entry[at + id_length + key_length :]
        partition = partition_of(key.decode(), partitions)
        return Outgoing(self._topic, partition, key, value, envelope.headers())

    def _load(self, txn: Any, key: bytes) -> tuple[int, CallState]:
        value = txn.get(key, db=self._db[_CALLS])
        return (_ANY_DUE, CallState()) if value is None else _unpacked(value)

    def _write(self, change: Any) -> None:
        while True:
            try:
                with self._env.begin(write=True) as txn:
                    change(txn)
                return
            except lmdb.MapFullError:
                self._env.set_mapsize(2 * self._env.info()["map_size"])

    def close(self) -> None:
        """Closes the file; everything in it is on disk."""
        with self._lock:
            self._env.close()


def _packed(due: int, state: CallState) -> bytes:
    head = _STATE.pack(_FORMAT, due, state.written, state.abandoned, state.digest)
    return head + b"".join(len(f.raw).to_bytes(4) + f.raw for f in state.facts())


def _unpacked(value: bytes) -> tuple[int, CallState]:
    _, due, written, abandoned, digest = _STATE.unpack_from(value)
    decision, progress, at = None, list[ProgressFact](), _STATE.size
    while at < len(value):
        length = int.from_bytes(value[at : at + 4])
        raw = value[at + 4 : at + 4 + length]
        fact, _, _ = fact_of(raw[0], raw[1:])
        if isinstance(fact, DecisionFact):
            decision = fact
        else:
            progress.append(fact)
        at += 4 + length
    return due, CallState(decision, tuple(progress), abandoned, written, digest if written else b"")
