"""Parks records that can never be applied on `<topic>.parked`, with the reason, and not too many.

Refuses to hide a broken deployment: past its limit it raises, since then the code is wrong and not
the records (a dead letter queue must not swallow a whole topic). What is parked, and how much of
it lately, is read from the parked topic itself: a process that crashes and reads again neither
parks a record twice nor begins to count anew. Invariant: when `park` returns, Kafka has
acknowledged the copy.
"""

import hashlib
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)

from services.runtime.errors import AxbridgeError, Malformed
from services.runtime.message import to_record
from services.runtime.metrics import Metrics, Name
from services.runtime.record import Record
from services.runtime.telemetry import logger

_ACK_SECONDS: Final = 30.0
_REMEMBERED: Final = 10_000  # of a partition: 100 hours at the bound; 2 MB, read once
_LOG: Final = logger(__name__)


class ParkedTooMany(AxbridgeError):
    """More records than the bound could not be applied: stop and let a person look."""


class Parking(Protocol):
    """Where records go that can never be applied."""

    def park(self, record: Record, reason: Malformed) -> None:
        """Copies the record, once, to the parked topic and raises the alarm. Raises
        ParkedTooMany beyond the bound."""


class _Parked:
    """What stands on one parked topic: ids, and when (ms) each was parked."""

    def __init__(self) -> None:
        self.ids: set[bytes] = set()
        self.times: deque[int] = deque()

    def add(self, identity: bytes, time_ms: int) -> None:
        self.ids.add(identity)
        self.times.append(time_ms)


class Parker:
    """Parks at most `limit` records of a topic in any `window_seconds`, all processes together."""

    def __init__(
        self,
        bootstrap: str,
        metrics: Metrics | None = None,
        *,
        limit: int = 100,
        window_seconds: float = 3600.0,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._bootstrap = bootstrap
        self._metrics = metrics
        self._producer: Producer | None = None
        self._limit = limit
        self._window_ms = window_seconds * 1000
        self._wall = wall
        self._parked: dict[str, _Parked] = {}
        self._lock = threading.Lock()  # a loop's thread and a sink's own may park at once

    def park(self, record: Record, reason: Malformed) -> None:
        """Copies the record to `<topic>.parked`, its position and the reason in headers. One that
        is there already for that reason is not copied again.

        Raises:
            ParkedTooMany: the bound is reached, or Kafka does not take the copy.
        """
        identity, now = parked_id(record, reason.reason), int(self._wall() * 1000)
        with self._lock:
            parked = self._known(record.topic)
            if identity not in parked.ids:
                self._park(record, reason.reason, parked, identity, now)

    def _park(
        self, record: Record, reason: str, parked: _Parked, identity: bytes, now: int
    ) -> None:
        while parked.times and parked.times[0] < now - self._window_ms:
            parked.times.popleft()
        if len(parked.times) >= self._limit:
            raise ParkedTooMany("PARKED_TOO_MANY", topic=record.topic, limit=str(self._limit))
        self._copy(record, reason, identity)
        parked.add(identity, now)
        _LOG.error("a record was parked", topic=record.topic, partition=record.partition,
                   offset=record.offset, reason=reason)  # fmt: skip
        if self._metrics is not None:
            self._metrics.counter(Name.PARKED, topic=record.topic, reason=reason).inc()

    def _known(self, topic: str) -> _Parked:
        if topic not in self._parked:
            try:
                self._parked[topic] = self._read(f"{topic}.parked")
            except KafkaException:
                raise ParkedTooMany("PARKING_FAILED", topic=topic) from None
        return self._parked[topic]

    def _read(self, topic: str) -> _Parked:
        """What is parked there by now, by whomever."""
        found = _Parked()
        consumer = Consumer({"bootstrap.servers": self._bootstrap, "group.id": "unused"})
        try:
            left: dict[int, tuple[int, int]] = {}
            known = consumer.list_topics(topic, timeout=_ACK_SECONDS).topics[topic]
            for partition in known.partitions:
                place = TopicPartition(topic, partition)
                low, high = consumer.get_watermark_offsets(place, timeout=_ACK_SECONDS)
                if high > low:
                    left[partition] = max(low, high - _REMEMBERED), high
            consumer.assign([TopicPartition(topic, p, start) for p, (start, _) in left.items()])
            until = time.monotonic() + _ACK_SECONDS
            while left:
                for message in consumer.consume(1000, timeout=0.1):
                    copy = to_record(message)
                    if copy is None:
                        continue
                    identity = dict(copy.headers).get("ax_parked_id")
                    found.add(identity if isinstance(identity, bytes) else b"", copy.timestamp_ms)
                    if copy.offset + 1 >= left.get(copy.partition, (0, 0))[1]:
                        left.pop(copy.partition, None)
                if time.monotonic() > until:
                    raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        finally:
            consumer.close()
        return found

    def _copy(self, record: Record, reason: str, identity: bytes) -> None:
        if self._producer is None:
            self._producer = Producer(
                {
                    "bootstrap.servers": self._bootstrap,
                    "enable.idempotence": True,
                    "acks": "all",
                    "linger.ms": 0,
                }
            )
        outcome: list[KafkaError | None] = []

        def on_delivery(error: KafkaError | None, _message: Message) -> None:
            outcome.append(error)

        self._producer.produce(
            f"{record.topic}.parked",
            key=record.key,
            value=record.value,
            headers=[
                *record.headers,
                ("ax_parked_reason", reason.encode()),
                ("ax_parked_partition", b"%d" % record.partition),
                ("ax_parked_offset", b"%d" % record.offset),
                ("ax_parked_id", identity),
            ],
            on_delivery=on_delivery,
        )
        self._producer.flush(_ACK_SECONDS)
        if outcome != [None]:
            raise ParkedTooMany("PARKING_FAILED", topic=record.topic)


def parked_id(record: Record, reason: str) -> bytes:
    """The same for the same record and reason, whoever parks it. The value is in it, since a topic
    that is made anew has other records at the same offsets."""
    value = hashlib.sha256(record.value or b"").hexdigest()
    text = f"{record.topic}/{record.partition}/{record.offset}/{reason}/{value}"
    return hashlib.sha256(text.encode()).hexdigest()[:32].encode()
