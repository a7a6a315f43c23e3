"""Restores a lost store from Kafka, and reads compacted topics to their ends.

Refuses to call a cell ready before every compacted topic was read to the end that it had after the
old term was over. Invariant: while healing, only the healer knows the store epoch, so nobody else
can read or write.
"""

import asyncio
import logging
import secrets
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Final, Protocol

from axbridge.runtime.v1 import outbox_pb2
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from services.runtime.acks import first_sequence
from services.runtime.cell import Cell
from services.runtime.envelope import header_int
from services.runtime.errors import Malformed
from services.runtime.message import to_record
from services.runtime.placement import Position
from services.runtime.record import Record

_BATCH: Final = 2000

_log = logging.getLogger(__name__)


class Rebuild(Protocol):
    """What a service does to restore and repair its cell."""

    @property
    def topics(self) -> Sequence[str]:
        """Compacted topics, folded one after the other; the first holds the cell's record."""

    def cell_record(self, epoch: int) -> outbox_pb2.OutboxRecord:
        """The record, keyed `cell/<cell>`, that makes a term known to Kafka."""

    async def restore(self, records: Sequence[Record], store_epoch: bytes) -> None:
        """Puts records (tombstones too, in topic order) into the store where they are newer than
        what it has. Idempotent. Writes with `Cell.call_as(store_epoch, …)`."""

    async def finish(self, store_epoch: bytes) -> None:
        """Called once everything is restored and the new term has begun; may append to the outbox
        (with `call_as`)."""

    async def repair(self, record: Record, *, overrule: bool = False) -> bool:
        """`record`, of an older term, is the last of its key on a topic. False if it is what the
        store has; else publishes what the store has again, with a higher version if the record's
        is higher. Writes with `Cell.call`.

        Raises:
            Malformed: it cannot be read; or VERSION_CONTRADICTED: it is of the store's version and
                says something else. Nothing happened; with `overrule` it is overruled then.
        """

    async def announce(self) -> None:
        """Publishes everything that the store has once more: Kafka has lost some of it. Idempotent;
        writes with `Cell.call`."""


async def heal(
    cell: Cell,
    owner: str,
    lease_ms: int,
    bootstrap: str,
    rebuild: Rebuild,
    announce: Callable[[int], Awaitable[None]],
    *,
    force: bool = False,
) -> Mapping[str, int] | None:
    """Restores the cell from Kafka and marks it ready under a new term; how many records of each
    topic it read.

    `announce` makes the new epoch known to Kafka before anybody may write under it: if the store
    were lost again at once, the next heal would else begin with the same sequences. `force` takes
    the cell from whoever owns it: what that one still publishes is of an older term.

    Returns None if another process owns or heals it. Raises Unavailable, PublishFailed or
    KafkaException; then somebody starts anew.
    """
    secret = f"healing-{secrets.token_hex(8)}".encode()
    begun = await cell.raw("heal_begin", args=(owner, lease_ms, secret, int(force)))
    if begun[0] != b"OK":
        return None
    highest = int(begun[1])
    verified: dict[Position, int] = {}
    counts: Counter[str] = Counter()
    for topic in rebuild.topics:

        async def restore(records: Sequence[Record]) -> None:
            nonlocal highest
            counts[records[0].topic] += len(records)
            ours = [record for record in records if _headed(record)]
            highest = max([highest, *(header_int(r.headers, "ce_axepoch") for r in ours)])
            await rebuild.restore(ours, secret)

        verified |= await read_to_end(bootstrap, topic, restore)
    epoch = highest + 1
    began = await cell.raw("heal_epoch", args=(owner, secret, epoch, first_sequence(epoch)))
    if began[0] != b"OK":
        return None
    await announce(epoch)
    await rebuild.finish(secret)
    if verified:
        await cell.redis.hset(
            cell.key("positions"),
            mapping={f"verified/{topic}/{p}": end for (topic, p), end in verified.items()},
        )
    done = await cell.raw("heal_done", args=(owner, secret, epoch, await cell.run_id()))
    return counts if done[0] == b"OK" else None


def _headed(record: Record) -> bool:
    """False for a record that no relay can have written: it is passed over, since else no heal
    would ever come to its end. What comes while the cell is owned is parked (repair.py)."""
    try:
        check_headers(record)
    except Malformed:
        _log.error("not ours, passed over: %r", record)
        return False
    return True


def check_headers(record: Record) -> None:
    """Raises Malformed (ENVELOPE_MALFORMED): term or version are no numbers."""
    header_int(record.headers, "ce_axepoch")
    header_int(record.headers, "ce_axversion")


async def read_to_end(
    bootstrap: str,
    topic: str,
    take: Callable[[Sequence[Record]], Awaitable[None]],
    since_ms: int = 0,
) -> dict[Position, int]:
    """Gives every record of a topic to `take`, in partition order; returns where it ended. While a
    batch is taken, the next one is read. `since_ms`: what is older may be left out.

    Raises KafkaException, also where the broker does not show the topic (yet).
    """
    loop = asyncio.get_running_loop()
    stop = threading.Event()

    def read() -> dict[Position, int]:
        ends: dict[Position, int] = {}
        consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "unused",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 10,  # the end of a topic is told by an empty answer
            }
        )
        try:
            known = consumer.list_topics(topic, timeout=30).topics[topic]
            partitions = known.partitions
            if known.error is not None or not partitions:  # what is not shown is not empty
                raise KafkaException(
                    known.error or KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART, topic)
                )
            begin = [TopicPartition(topic, p, OFFSET_BEGINNING) for p in partitions]
            if since_ms:  # where all are older, the answer is the end
                asked = [TopicPartition(topic, p, since_ms) for p in partitions]
                begin = consumer.offsets_for_times(asked, timeout=30)
            consumer.assign(begin)
            taking: Future[None] | None = None
            while len(ends) < len(partitions):
                if stop.is_set():
                    raise KafkaException(KafkaError(KafkaError._FAIL, "stopped"))
                records = []
                for message in consumer.consume(_BATCH, timeout=0.1):
                    error = message.error()
                    if error is not None and error.code() == KafkaError._PARTITION_EOF:
                        ends[topic, int(message.partition() or 0)] = int(message.offset() or 0)
                    elif (record := to_record(message)) is not None:
                        records.append(record)
                if records:
                    if taking is not None:
                        taking.result()
                    taking = asyncio.run_coroutine_threadsafe(_taken(take, records), loop)
            if taking is not None:
                taking.result()
        finally:
            consumer.close()
        return ends

    try:
        return await asyncio.to_thread(read)
    finally:
        stop.set()


async def _taken(take: Callable[[Sequence[Record]], Awaitable[Any]], records: list[Record]) -> None:
    await take(records)
