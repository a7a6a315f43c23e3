"""Publishes a cell's outbox, in order, under one owner's term.

Refuses to go on once the term is over. Crash windows: a batch that was produced but not yet marked
`acked` is produced again in the next term (same event ids, same versions). Frozen between reading
and producing, this relay may append old records behind newer ones when it wakes, and so may one
whose produce failed: a request of it may still be under way. Both are of an older term then, and
the newer one's owner repairs that (services/runtime/repair.py). Invariant: `acked` never passes an
entry that Kafka has not acknowledged, and one term is one producer session.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final

from axbridge.runtime.v1 import outbox_pb2
from redis.exceptions import RedisError, ResponseError

from services.runtime import envelope
from services.runtime.acks import EPOCH_SHIFT, first_sequence
from services.runtime.cell import Cell, unavailable
from services.runtime.metrics import Metrics, Name
from services.runtime.publisher import Outgoing, Publishing

_BATCH: Final = 500  # entries of one round trip: about 15 ms of producing
# Once many entries come together, the next batch is gathered a little: a round trip costs the
# broker, us and all who follow about the same for ten entries as for fifty. With 64 callers on a
# busy machine 15 ms took about a fifth less CPU than 5 ms, and answers came sooner for it. Few
# callers never wait, nor does what fills a batch by itself.
_MANY: Final = 16
_GATHER_SECONDS: Final = 0.015
_NEVER_MS: Final = 1 << 62


class Deposed(Exception):
    """Another owner has taken the cell, or the store was lost: stop at once."""


class Relay:
    """Moves entries from the outbox to Kafka while it owns the cell."""

    def __init__(
        self, cell: Cell, owner: str, connect: Callable[[], Publishing], metrics: Metrics
    ) -> None:
        self._cell = cell
        self._owner = owner
        self._connect = connect
        self._outbox = cell.key("outbox")
        self._source = cell.source
        self._relayed = metrics.counter(Name.RELAYED, cell=cell.name)
        self._oldest_ms = _NEVER_MS
        self._seconds = metrics.histogram(Name.OUTBOX_SECONDS, cell=cell.name)

    async def run(self, epoch: int, acked: int) -> None:
        """Relays from behind `acked` until deposed.

        Raises:
            Deposed: the term is over.
            Unavailable: the store does not answer.
            PublishFailed: the outcome of a batch is unknown: publish it again in a new term.
        """
        publisher = self._connect()
        # What a store that went back had in its outbox may be older than what Kafka has. It keeps
        # the epoch it was written in, so that it is compared with the store (repair.py).
        kept = first_sequence(self._cell.store_epoch)
        busy = False
        try:
            while True:
                if busy:
                    await asyncio.sleep(_GATHER_SECONDS)
                entries = await self._read(acked)
                busy = _MANY <= len(entries) < _BATCH
                if not entries:
                    continue
                self._oldest_ms = _NEVER_MS
                batch = [
                    outgoing
                    for sequence, entry in entries
                    for outgoing in self._outgoing(
                        sequence, entry, epoch if sequence > kept else sequence >> EPOCH_SHIFT
                    )
                ]
                await publisher.publish(batch)
                acked = entries[-1][0]
                await self._mark(epoch, acked)
                self._relayed.inc(len(batch))
                self._seconds.observe(max(0.0, time.time() - self._oldest_ms / 1000))
        finally:
            publisher.close()

    async def publish_now(
        self, record: outbox_pb2.OutboxRecord, publisher: Publishing, epoch: int
    ) -> None:
        """Publishes one record outside the outbox: the cell's own."""
        entry = outbox_pb2.OutboxEntry(records=[record])
        await publisher.publish(self._outgoing(0, entry.SerializeToString(), epoch))

    async def _read(self, acked: int) -> list[tuple[int, bytes]]:
        """Waits up to a second for entries behind `acked`."""
        read = ("XREAD", "COUNT", _BATCH, "BLOCK", 1000, "STREAMS", self._outbox, f"{acked}-0")
        try:
            [reply] = await self._cell.exchange([read])
        except (RedisError, OSError):
            raise unavailable("STORE_UNAVAILABLE") from None
        if isinstance(reply, ResponseError):
            raise unavailable("STORE_UNAVAILABLE")
        if not reply:
            return []
        [entries] = reply.values() if isinstance(reply, dict) else (stream[1] for stream in reply)
        return [(int(name.partition(b"-")[0]), fields[1]) for name, fields in entries]

    async def _mark(self, epoch: int, sequence: int) -> None:
        reply = await self._cell.raw("ack", args=(self._owner, epoch, sequence))
        if reply[0] != b"OK":
            raise Deposed(reply[0].decode())
        self._cell.acks.advance(sequence)

    def _outgoing(self, sequence: int, entry: bytes, epoch: int) -> Sequence[Outgoing]:
        outgoing = []
        for record in outbox_pb2.OutboxEntry.FromString(entry).records:
            self._oldest_ms = min(self._oldest_ms, record.time_ms)
            described = envelope.Envelope(
                event_id=record.event_id or f"{self._cell.service}-{epoch}-{sequence}",
                type=record.type,
                source=self._source,
                time_ms=record.time_ms,
                version=record.version,
                epoch=epoch,
                sequence=sequence,
            )
            value = None if record.tombstone else record.value
            outgoing.append(
                Outgoing(record.topic, record.partition, record.key, value, described.headers())
            )
        return outgoing
