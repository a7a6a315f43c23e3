"""The only Kafka read loop: poll, decode, apply, or park, or crash.

Two ways to read: as a member of a consumer group, where partitions are shared, and broadcast, where
the process assigns itself every partition and joins no group (views). In both the consumed offset
lives in the sink, written in the same atomic step as the effect; Kafka's own commit is a hint for
lag tools. Invariant: a record is applied, parked (acknowledged by Kafka before the sink moves
past it), or the loop ends with an exception: never logged and passed over.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from services.runtime.errors import Malformed, Retry
from services.runtime.parking import Parker
from services.runtime.record import Record

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)
Position = tuple[str, int]

_PROBE_SECONDS = 1.0


class Sink(Protocol[T_contra]):
    """Where records take effect."""

    def positions(self) -> Mapping[Position, int]:
        """The next offset of each (topic, partition) that the effects already cover."""

    def apply(
        self, items: Sequence[tuple[Record, T_contra]], positions: Mapping[Position, int]
    ) -> None:
        """Applies decoded records, in order, and stores `positions`, in one atomic step.

        `items` may be empty (everything was parked). Records at offsets below the stored position
        must be ignored, so that a repeat is harmless. Raises Retry to be called again with the same
        items; anything else ends the loop.
        """


class Follower(Generic[T]):
    """Reads topics into a sink, on the thread that calls `run`.

    `gather_ms` is how long the broker may hold back records to hand out more at once.
    """

    def __init__(
        self,
        bootstrap: str,
        topics: Sequence[str],
        decode: Callable[[Record], T],
        sink: Sink[T],
        parker: Parker,
        *,
        group: str | None,
        batch: int = 1000,
        gather_ms: int = 0,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._topics = list(topics)
        self._decode = decode
        self._sink = sink
        self._parker = parker
        self._group = group
        self._batch = batch
        self._wall = wall
        self._admin = AdminClient({"bootstrap.servers": bootstrap})
        config: dict[str, Any] = {
            "bootstrap.servers": bootstrap,
            "group.id": group or "unused",  # the client demands one even for plain assignment
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "earliest",
            # A follower that may lag lets the broker gather: it answers ten times a second instead
            # of at each produce, which is most of what a busy broker has to do.
            "fetch.wait.max.ms": gather_ms or 500,
            "fetch.min.bytes": 1_000_000 if gather_ms else 1,
            "fetch.error.backoff.ms": 100,
            "reconnect.backoff.max.ms": 1000,
        }
        if group:
            config["group.protocol"] = "consumer"  # KIP-848
        self._consumer = Consumer(config)
        self._next: dict[Position, int] = {}
        self._probe: tuple[float, dict[Position, int]] | None = None
        self._probe_due = 0.0
        self._fresh_at = 0.0

    def run(self, stop: threading.Event) -> None:
        """Follows the topics until `stop` is set; what is read is applied before it returns.

        Raises:
            KafkaException: an error that the client does not recover from by itself.
            ParkedTooMany: more records than the bound cannot be applied.
        """
        try:
            if self._group:
                self._consumer.subscribe(
                    self._topics,
                    on_assign=self._on_assign,
                    on_revoke=self._on_revoke,
                    on_lost=self._on_revoke,
                )
            else:
                self._consumer.assign(self._placed(self._all_partitions(stop)))
            while not stop.is_set():
                self._step(self._poll(), stop)
        finally:
            self._consumer.close()

    @property
    def fresh_at(self) -> float:
        """Wall-clock seconds at which the sink was last known to hold everything; 0 if never."""
        return self._fresh_at

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        consumer.incremental_assign(self._placed(partitions))

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        # Between two polls nothing is half applied, so there is nothing to finish here.
        for partition in partitions:
            self._next.pop((partition.topic, partition.partition), None)
        self._probe = None
        consumer.incremental_unassign(partitions)

    def _placed(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        """The partitions at the offsets that the sink's effects reach to."""
        stored = self._sink.positions()
        places = {(p.topic, p.partition): stored.get((p.topic, p.partition), 0) for p in partitions}
        self._next.update(places)
        self._probe = None
        return [TopicPartition(*position, offset) for position, offset in places.items()]

    def _all_partitions(self, stop: threading.Event) -> list[TopicPartition]:
        while not stop.is_set():
            try:
                known = self._consumer.list_topics(timeout=5).topics
            except KafkaException:  # no broker yet: what is on disk serves meanwhile
                stop.wait(0.2)
                continue
            missing = [name for name in self._topics if name not in known]
            if missing:
                raise KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART, str(missing)))
            return [
                TopicPartition(name, p) for name in self._topics for p in known[name].partitions
            ]
        return []

    def _poll(self) -> list[Message]:
        """What has arrived. `consume` with a time-out waits for a full batch, so it gets none."""
        first = self._consumer.poll(0.1)
        return [] if first is None else [first, *self._consumer.consume(self._batch - 1, timeout=0)]

    def _step(self, messages: list[Message], stop: threading.Event) -> None:
        items: list[tuple[Record, T]] = []
        moved: dict[Position, int] = {}
        for message in messages:
            record = to_record(message)
            if record is None:
                continue
            position = (record.topic, record.partition)
            if position not in self._next or record.offset < self._next[position]:
                continue
            try:
                items.append((record, self._decode(record)))
            except Malformed as malformed:
                self._parker.park(record, malformed)
            moved[position] = record.offset + 1
        if moved:
            self._apply(items, moved, stop)
            self._next.update(moved)
            if self._group:
                offsets = [TopicPartition(*position, offset) for position, offset in moved.items()]
                self._consumer.commit(offsets=offsets, asynchronous=True)
        self._measure_freshness()

    def _apply(
        self,
        items: Sequence[tuple[Record, T]],
        moved: Mapping[Position, int],
        stop: threading.Event,
    ) -> None:
        backoff = 0.05
        while True:
            try:
                self._sink.apply(items, moved)
                return
            except Retry:
                if stop.wait(backoff):
                    raise
                backoff = min(backoff * 2, 2.0)

    def _measure_freshness(self) -> None:
        """Asks once a second where the topics end; once that is passed, the asking time counts."""
        if self._probe is None and time.monotonic() >= self._probe_due and self._next:
            self._probe_due = time.monotonic() + _PROBE_SECONDS
            asked_at = self._wall()
            try:
                ends = end_offsets(self._admin, self._next, timeout=1.0)
            except KafkaException:  # no answer: the age keeps growing, which is the truth
                return
            self._probe = (asked_at, ends)
        if self._probe is not None:
            asked_at, ends = self._probe
            if all(self._next.get(position, 0) >= end for position, end in ends.items()):
                self._fresh_at = asked_at
                self._probe = None


def end_offsets(
    admin: AdminClient, positions: Iterable[Position], timeout: float = 5.0
) -> dict[Position, int]:
    """Where each partition ends now. Raises KafkaException: one is missing, or no answer came."""
    latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
    wanted = {TopicPartition(*position): latest for position in positions}
    found = admin.list_offsets(wanted, request_timeout=timeout) if wanted else {}
    return {(place.topic, place.partition): each.result().offset for place, each in found.items()}


def to_record(message: Message) -> Record | None:
    """The record; None for an error that the client itself retries.

    Raises:
        KafkaException: the error is final, e.g. the offset wanted was deleted.
    """
    error = message.error()
    if error is not None:
        if error.fatal() or error.code() in _FINAL:
            raise KafkaException(error)
        return None
    _, timestamp = message.timestamp()
    headers = message.headers()
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    if topic is None or partition is None or offset is None:
        raise KafkaException(KafkaError(KafkaError._BAD_MSG))
    return Record(
        topic=topic,
        partition=partition,
        offset=offset,
        key=_bytes(message.key()),
        value=None if message.value() is None else _bytes(message.value()),
        headers=list(headers.items()) if isinstance(headers, dict) else headers or [],
        timestamp_ms=timestamp,
    )


def _bytes(value: str | bytes | None) -> bytes:
    return value.encode() if isinstance(value, str) else value or b""


_FINAL = {
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
}
