"""The only Kafka read loop: poll, decode, apply, or park, or crash.

Two ways to read: as a member of a consumer group, where partitions are shared, and broadcast, where
the process assigns itself every partition and joins no group (views). In both the consumed offset
lives in the sink, written in the same atomic step as the effect; Kafka's own commit is a hint for
lag tools. Invariant: a record is applied, parked (acknowledged by Kafka before the sink moves
past it), or the loop ends with an exception: never logged and passed over.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from services.runtime.errors import Malformed, Retry
from services.runtime.message import FINAL, LogMoved, to_record
from services.runtime.parking import Parking
from services.runtime.placement import IDENTITY, end_offsets, identities, place
from services.runtime.placement import Position as Position
from services.runtime.record import Record
from services.runtime.telemetry import logger

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)

_PROBE_SECONDS = 1.0
_RETRY_SECONDS = 0.2
_LOG = logger(__name__)


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

    def void(self, positions: Mapping[Position, str]) -> None:
        """Kafka does not have (any more) what these positions were taken from; see placement.

        Forgets them, and what hangs on them as the sink thinks right, so that `positions` has them
        no more: they are read from their beginning. Or raises, to end the loop.
        """


class Follower(Generic[T]):
    """Reads topics into a sink, on the thread that calls `run`.

    `gather_ms` is how long the broker may hold back records to hand out more at once. Without a
    group it reads all partitions, or those that `mine` takes.
    """

    def __init__(
        self,
        bootstrap: str,
        topics: Sequence[str],
        decode: Callable[[Record], T],
        sink: Sink[T],
        parker: Parking,
        *,
        group: str | None,
        batch: int = 1000,
        gather_ms: int = 0,
        mine: Callable[[int], bool] = lambda partition: True,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._topics = list(topics)
        self._decode = decode
        self._sink = sink
        self._parker = parker
        self._group = group
        self._batch = batch
        self._mine = mine
        self._wall = wall
        self._admin = AdminClient({"bootstrap.servers": bootstrap})
        self._config: dict[str, Any] = {
            "bootstrap.servers": bootstrap,
            "group.id": group or "unused",  # the client demands one even for plain assignment
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            # Where to begin is always said. An offset that is not there is told, not passed over.
            "auto.offset.reset": "error",
            # A follower that may lag lets the broker gather: it answers ten times a second instead
            # of at each produce, which is most of what a busy broker has to do.
            "fetch.wait.max.ms": gather_ms or 500,
            "fetch.min.bytes": 1_000_000 if gather_ms else 1,
            "fetch.error.backoff.ms": 100,
            "reconnect.backoff.max.ms": 1000,
        }
        if group:
            self._config["group.protocol"] = "consumer"  # KIP-848
        self._consumer: Consumer
        self._stop = threading.Event()
        self._next: dict[Position, int] = {}
        self._identities: dict[str, int] = {}
        self._unnamed: dict[str, int] = {}  # topics whose identity the sink does not know yet
        self._probe: tuple[float, dict[Position, int]] | None = None
        self._probe_due = 0.0
        self._fresh_at = 0.0

    def run(self, stop: threading.Event) -> None:
        """Follows the topics until `stop` is set; what is read is applied before it returns.

        Raises:
            KafkaException: an error that the client does not recover from by itself.
            ParkedTooMany: more records than the bound cannot be applied.
        """
        self._stop = stop
        while not stop.is_set():
            try:
                self._follow(stop)
            except LogMoved as moved:
                _LOG.error("kafka is not what was read; looking again", why=str(moved))
                stop.wait(_RETRY_SECONDS)

    def _follow(self, stop: threading.Event) -> None:
        self._consumer, self._next, self._probe = Consumer(self._config), {}, None
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
        """The partitions at the offsets that the sink's effects reach to; none once stopped."""
        wanted = [(p.topic, p.partition) for p in partitions]
        while not self._stop.is_set():
            stored = self._sink.positions()
            try:
                found = place(self._admin, wanted, stored)
            except KafkaException as away:
                if away.args[0].code() in FINAL:
                    raise
                self._stop.wait(_RETRY_SECONDS)
                continue
            if found.void:
                for (topic, partition), why in sorted(found.void.items()):
                    _LOG.error("a position is void", topic=topic, partition=partition, why=why)
                self._fresh_at = 0.0
                self._sink.void(found.void)
                continue
            self._next.update(found.starts)
            self._identities.update(found.identities)
            known = {topic for topic, partition in stored if partition == IDENTITY}
            self._unnamed = {t: its for t, its in self._identities.items() if t not in known}
            self._probe = None
            return [TopicPartition(*position, offset) for position, offset in found.starts.items()]
        return []

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
                TopicPartition(name, p)
                for name in self._topics
                for p in known[name].partitions
                if self._mine(p)
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
            names = {topic for topic, _ in moved} & self._unnamed.keys()
            whole = moved | {(topic, IDENTITY): self._unnamed[topic] for topic in names}
            self._apply(items, whole if names else moved, stop)
            for topic in names:
                del self._unnamed[topic]
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
                found = identities(self._admin, {topic for topic, _ in self._next}, timeout=1.0)
            except KafkaException:  # no answer: the age keeps growing, which is the truth
                return
            if any(self._identities[topic] != its for topic, its in found.items()) or any(
                self._next.get(position, 0) > end for position, end in ends.items()
            ):
                raise LogMoved(KafkaError(KafkaError._AUTO_OFFSET_RESET, "made anew, or went back"))
            self._probe = (asked_at, ends)
        if self._probe is not None:
            asked_at, ends = self._probe
            if all(self._next.get(position, 0) >= end for position, end in ends.items()):
                self._fresh_at = asked_at
                self._probe = None
