"""Hands batches to Kafka and returns when every record is acknowledged.

Refuses to guess: a batch whose outcome is unknown is an error, and the caller publishes it again
whole (at-least-once; ids and versions make that harmless). Invariant: records of one partition
stand on the topic in the order they were given, within one Publisher.
"""

import asyncio
import threading
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from confluent_kafka import KafkaError, Message, Producer

from services.runtime.envelope import Headers


class Outgoing(NamedTuple):
    """A record to be produced; `value` None is a tombstone."""

    topic: str
    partition: int
    key: bytes
    value: bytes | None
    headers: Headers

    def __repr__(self) -> str:
        return f"<Outgoing {self.topic}/{self.partition}>"


class PublishFailed(Exception):
    """Kafka did not acknowledge a record within its time; it may be on the topic all the same."""


class Publishing(Protocol):
    """What a relay needs of Kafka."""

    async def publish(self, batch: Sequence[Outgoing]) -> None:
        """Returns once all are acknowledged by all in-sync replicas. Raises PublishFailed."""

    def close(self) -> None:
        """Drops what is not acknowledged and ends."""


class Publisher:
    """An idempotent producer with acks=all and a thread that hears its acknowledgements."""

    def __init__(self, bootstrap: str) -> None:
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": 1,  # a batch leaves as one request a partition, not in pieces
                "message.timeout.ms": 30_000,
                "reconnect.backoff.max.ms": 1000,
                "queue.buffering.max.messages": 1_000_000,
            }
        )
        self._closing = threading.Event()
        self._poller = threading.Thread(target=self._poll, name="publisher", daemon=True)
        self._poller.start()

    async def publish(self, batch: Sequence[Outgoing]) -> None:
        """See Publishing."""
        if not batch:
            return
        loop = asyncio.get_running_loop()
        done: asyncio.Future[KafkaError | None] = loop.create_future()
        left = len(batch)
        failed: KafkaError | None = None

        def settle() -> None:
            if not done.done():
                done.set_result(failed)

        def on_delivery(error: KafkaError | None, _message: Message) -> None:
            nonlocal left, failed
            failed = failed or error
            left -= 1
            if left == 0:
                loop.call_soon_threadsafe(settle)

        for record in batch:
            self._producer.produce(
                record.topic,
                partition=record.partition,
                key=record.key,
                value=record.value,
                headers=record.headers,
                on_delivery=on_delivery,
            )
        error = await done
        if error is not None:
            raise PublishFailed(error.name())

    def close(self) -> None:
        """See Publishing."""
        self._closing.set()
        self._producer.purge()
        self._poller.join(timeout=5)

    def _poll(self) -> None:
        while not self._closing.is_set():
            self._producer.poll(0.1)
