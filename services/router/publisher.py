"""Hands batches to Kafka on the calling thread, and says whether all of it was acknowledged.

Refuses to guess: a batch with one failure is a failed batch, and the caller sends all of it again
(ids make that harmless). Invariant: idempotent producer, acks=all.
"""

from collections.abc import Sequence
from typing import Final, Protocol

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from services.runtime.publisher import Outgoing
from services.runtime.telemetry import logger

_LOG: Final = logger(__name__)


class Publishing(Protocol):
    """What the shipper and the records need of Kafka."""

    def partitions(self, topic: str) -> int:
        """How many the topic has; 0 while no broker answers."""

    def publish(self, batch: Sequence[Outgoing]) -> bool:
        """Whether all in-sync replicas have all of it. If not, some of it may be there.

        Raises:
            KafkaException: the producer is broken for good: start the process anew.
        """


class KafkaPublisher:
    """See Publishing."""

    def __init__(self, bootstrap: str, timeout_ms: int = 30_000) -> None:
        self._counts: dict[str, int] = {}
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": 2,
                "message.timeout.ms": timeout_ms,
                "reconnect.backoff.max.ms": 1000,
                "queue.buffering.max.messages": 1_000_000,
            }
        )

    def partitions(self, topic: str) -> int:
        if topic not in self._counts:
            try:
                found = self._producer.list_topics(topic, timeout=2).topics[topic]
            except KafkaException:
                return 0
            if not found.partitions:
                return 0
            self._counts[topic] = len(found.partitions)
        return self._counts[topic]

    def publish(self, batch: Sequence[Outgoing]) -> bool:
        failed: list[KafkaError] = []
        left = len(batch)

        def on_delivery(error: KafkaError | None, _message: Message) -> None:
            nonlocal left
            left -= 1
            if error is not None:
                failed.append(error)

        for record in batch:
            self._produce(record, on_delivery)
        while left:
            self._producer.poll(0.1)
        for error in failed:
            if error.fatal():
                raise KafkaException(error)
        if failed:
            _LOG.warning("not acknowledged", count=len(failed), error=failed[0].name())
        return not failed

    def _produce(self, record: Outgoing, on_delivery: object) -> None:
        while True:
            try:
                self._producer.produce(
                    record.topic,
                    partition=record.partition,
                    key=record.key,
                    value=record.value,
                    headers=record.headers,
                    on_delivery=on_delivery,  # type: ignore[arg-type]
                )
                return
            except BufferError:  # the queue is full: acknowledgements make room
                self._producer.poll(0.1)
