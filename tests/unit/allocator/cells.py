"""A real cell that is ready without Kafka: a task acknowledges its outbox and keeps it."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from axbridge.runtime.v1 import outbox_pb2
from redis.exceptions import RedisError

from services.allocator.catalogue import CellCatalogue
from services.allocator.cells import SERVICE, functions
from services.allocator.domain import Block, Policy, Pool, PoolId
from services.allocator.store import CellNumberStore
from services.runtime.acks import first_sequence
from services.runtime.cell import Cell
from services.runtime.envelope import Envelope
from services.runtime.errors import Unavailable
from services.runtime.keyring import MemoryKeyRing
from services.runtime.record import Record
from services.runtime.tasks import ended
from services.runtime.topics import ALLOCATOR_NUMBERS, ALLOCATOR_STATE
from tests.factories import unique

POOL = PoolId("didi", "city")
BLOCK = "70010000001"
PARTITIONS = {ALLOCATOR_NUMBERS.name: 8, ALLOCATOR_STATE.name: 4}


@dataclass
class ReadyCell:
    """The cell and all records that left its outbox."""

    cell: Cell
    records: list[outbox_pb2.OutboxRecord] = field(default_factory=list)

    async def begin(self, epoch: int) -> None:
        """A heal that restores nothing."""
        secret = b"healing"
        await self.cell.raw("heal_begin", args=("test", 600_000, secret))
        first = first_sequence(epoch)
        await self.cell.raw("heal_epoch", args=("test", secret, epoch, first))
        run_id = await self.cell.run_id()
        await self.cell.raw("heal_done", args=("test", secret, epoch, run_id))
        await self.cell.refresh()

    async def acknowledge(self) -> None:
        """Reads and acknowledges for ever."""
        last = "0-0"
        while True:
            try:
                reply: Any = await self.cell.redis.xread({self.cell.key("outbox"): last}, 500, 1000)
                if not reply:
                    continue
                for name, fields in reply[0][1]:
                    entry = outbox_pb2.OutboxEntry.FromString(fields[b"e"])
                    self.records += entry.records
                    last = name.decode()
                epoch = int(last.split("-")[0]) >> 32
                await self.cell.raw("ack", args=("test", epoch, last.split("-")[0]))
                self.cell.acks.advance(int(last.split("-")[0]))
            except (RedisError, Unavailable):
                await asyncio.sleep(0.05)


@asynccontextmanager
async def ready_cell(url: str) -> AsyncIterator[ReadyCell]:
    """A cell of its own name on the shared server."""
    ready = ReadyCell(Cell(url, SERVICE, unique("t"), functions()))
    await ready.cell.load()
    await ready.begin(1)
    acknowledging = asyncio.create_task(ready.acknowledge())
    await asyncio.sleep(0)  # it takes the connection that stands: one cut off half made would leak
    try:
        yield ready
    finally:
        await ended([acknowledging])
        await ready.cell.close()


def store_of(ready: ReadyCell, keys: MemoryKeyRing | None = None) -> CellNumberStore:
    return CellNumberStore(ready.cell, keys or MemoryKeyRing(), PARTITIONS, grace_ms=0)


def catalogue_of(ready: ReadyCell) -> CellCatalogue:
    return CellCatalogue(ready.cell, PARTITIONS)


async def make_pool(
    ready: ReadyCell, policy: Policy, cooling_ms: int = 60_000, pair_cooling_ms: int = 0
) -> None:
    catalogue = catalogue_of(ready)
    if policy is Policy.SHARED:
        pair_cooling_ms = pair_cooling_ms or cooling_ms
    await catalogue.create_pool(Pool(POOL, policy, cooling_ms, 1500, pair_cooling_ms))
    await catalogue.register_block(Block(BLOCK, POOL, 2500))


async def published(ready: ReadyCell, count: int) -> Sequence[outbox_pb2.OutboxRecord]:
    """The newest `count` records, once the outbox is empty."""
    deadline = time.monotonic() + 5
    while await ready.cell.redis.xlen(ready.cell.key("outbox")):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    return ready.records[-count:]


def as_record(ready: ReadyCell, out: outbox_pb2.OutboxRecord) -> Record:
    """The record as it would come back from Kafka."""
    source = f"/axbridge/allocator/{ready.cell.name}"
    envelope = Envelope(out.event_id or "x", out.type, source, out.time_ms, out.version, 1, 1)
    value = None if out.tombstone else out.value
    return Record(out.topic, out.partition, 0, out.key, value, envelope.headers(), out.time_ms)
