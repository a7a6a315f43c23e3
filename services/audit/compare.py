"""Compares a log with the topics it was made from: is each distinct event exactly one leaf?

`python -m services.audit.verify FOLDER --kafka BOOTSTRAP`, after the log itself was found sound. It
keeps every event id in memory (some 400 bytes a leaf), so it is for logs of some million leaves.
Invariant: records that came while it read are no problem of the log; leaves are read after the ends
of the topics were asked for, and the sequencer is given `patience_seconds` to reach them.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Final

from axbridge.audit.v1.entry_pb2 import Entry
from confluent_kafka import Consumer, KafkaException, TopicPartition

from services.audit.checkpoint import NoteVerifier, open_checkpoint
from services.audit.entry import event_of, parked_event, types_of
from services.audit.reader import StoredTree
from services.audit.tilestore import FolderReader
from services.runtime.errors import Malformed
from services.runtime.message import to_record
from services.runtime.record import Record
from services.runtime.topics import EVENT_TOPICS, Topic

# A log that is wrong throughout is shown by these as well as by a million.
MOST_PROBLEMS: Final = 100
_POLL_SECONDS: Final = 10.0
_BATCH: Final = 5000

_Source = tuple[str, int]


class TopicsUnreadable(Exception):
    """Kafka did not give what it should have. That says nothing of the log: ask again."""


@dataclass
class _Leaves:
    """What is in the log: per event id where its leaf came from and the digest of the leaf."""

    size: int = 0
    by_id: dict[bytes, tuple[_Source, int, bytes]] = field(default_factory=dict)
    newest: dict[_Source, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def add(self, leaf: int, stored: bytes) -> None:
        entry = Entry.FromString(stored)
        source, event_id = (entry.topic, entry.partition), entry.event_id.encode()
        self.size = leaf + 1
        if event_id in self.by_id:
            self.problems.append(f"leaf {leaf}: event {entry.event_id} is a leaf already")
            return
        self.by_id[event_id] = source, entry.offset, sha256(stored).digest()
        if entry.offset <= self.newest.get(source, -1):
            self.problems.append(f"leaf {leaf}: {_place(source, entry.offset)} is out of order")
        self.newest[source] = max(entry.offset, self.newest.get(source, -1))


def compare_with_topics(
    folder: Path,
    vkey: str,
    bootstrap: str,
    topics: Sequence[Topic] = EVENT_TOPICS,
    patience_seconds: float = 0.0,
    mine: Callable[[int], bool] = lambda partition: True,
) -> list[str]:
    """What is wrong, in words; nothing if log and topics agree. `folder` is the served one; of
    several logs it has the partitions that `mine` takes.

    Raises:
        BadKey, BadNote, TileMissing, BadBundle: the log is unsound in itself; use `verify`.
        TopicsUnreadable: Kafka did not give what it has.
    """
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "unused",
                         "enable.auto.commit": False, "auto.offset.reset": "error"})  # fmt: skip
    try:
        ranges = {at: ends for at, ends in _ranges(consumer, topics).items() if mine(at[1])}
        records = [*_expected(_read(consumer, ranges), topics)]
    finally:
        consumer.close()
    leaves = _Leaves()
    deadline = time.monotonic() + patience_seconds
    _read_leaves(folder, vkey, leaves)
    while time.monotonic() < deadline and any(e[2] not in leaves.by_id for e in records):
        time.sleep(0.05)
        _read_leaves(folder, vkey, leaves)
    problems = [*leaves.problems, *_differences(records, leaves, ranges)]
    return problems[:MOST_PROBLEMS]


def _read_leaves(folder: Path, vkey: str, leaves: _Leaves) -> None:
    """Adds the leaves that are new since the last reading."""
    verifier, reader = NoteVerifier.parse(vkey), FolderReader(folder)
    checkpoint = open_checkpoint(reader.read_checkpoint() or b"", [verifier], verifier.name)
    tree = StoredTree(reader, checkpoint.size)
    for first, entries in tree.entries(leaves.size, tree.size):
        for leaf, stored in enumerate(entries, first):
            leaves.add(leaf, stored)


def _ranges(consumer: Consumer, topics: Sequence[Topic]) -> dict[_Source, tuple[int, int]]:
    """The offsets that Kafka has now, [low, end) of each partition."""
    try:
        known = consumer.list_topics(timeout=_POLL_SECONDS).topics
    except KafkaException as error:
        raise TopicsUnreadable("Kafka does not answer") from error
    missing = sorted(topic.name for topic in topics if topic.name not in known)
    if missing:
        raise TopicsUnreadable(f"no such topic: {', '.join(missing)}")
    return {
        (topic.name, partition): consumer.get_watermark_offsets(
            TopicPartition(topic.name, partition), timeout=_POLL_SECONDS
        )
        for topic in topics
        for partition in known[topic.name].partitions
    }


def _read(consumer: Consumer, ranges: dict[_Source, tuple[int, int]]) -> Iterator[Record]:
    open_ends = {source: end for source, (low, end) in ranges.items() if low < end}
    consumer.assign([TopicPartition(*source, ranges[source][0]) for source in open_ends])
    while open_ends:
        messages = consumer.consume(_BATCH, timeout=0.2)
        if not messages:
            messages = consumer.consume(1, timeout=_POLL_SECONDS)
        if not messages:
            raise TopicsUnreadable(f"no records for {_POLL_SECONDS:.0f} s")
        for message in messages:
            record = to_record(message)
            if record is None:
                continue
            source = record.topic, record.partition
            end = open_ends.get(source, 0)
            if record.offset < end:
                yield record
            if record.offset + 1 >= end:
                open_ends.pop(source, None)


def _expected(
    records: Iterable[Record], topics: Iterable[Topic]
) -> Iterator[tuple[_Source, int, bytes, bytes]]:
    """Per record: where it stands, the id its leaf must have, and the leaf's digest."""
    types = {topic.name: types_of(topic) for topic in topics}
    for record in records:
        try:
            event = event_of(record, types[record.topic])
        except Malformed as malformed:
            event = parked_event(record, malformed.reason)
        digest = sha256(event.entry).digest()
        yield (record.topic, record.partition), record.offset, event.event_id, digest


def _differences(
    records: Iterable[tuple[_Source, int, bytes, bytes]],
    leaves: _Leaves,
    ranges: dict[_Source, tuple[int, int]],
) -> Iterator[str]:
    unseen = {
        (source, offset): event_id
        for event_id, (source, offset, _) in leaves.by_id.items()
        if source in ranges and ranges[source][0] <= offset < ranges[source][1]
    }
    for source, offset, event_id, digest in records:
        unseen.pop((source, offset), None)
        found = leaves.by_id.get(event_id)
        if found is None:
            yield f"{_place(source, offset)}: event {event_id.decode()} is no leaf"
        elif found[:2] == (source, offset) and found[2] != digest:
            yield f"{_place(source, offset)}: the leaf is not what the topic has"
        elif found[0] == source and found[1] > offset:
            yield f"{_place(source, offset)}: the leaf is of a later repeat"
    for (source, offset), event_id in unseen.items():
        yield f"{_place(source, offset)}: leaf of event {event_id.decode()} has no record"


def _place(source: _Source, offset: int) -> str:
    return f"{source[0]}[{source[1]}]@{offset}"
