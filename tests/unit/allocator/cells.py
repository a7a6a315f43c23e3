"""A real cell that is ready without Kafka: a task acknowledges its outbox and keeps it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from axbridge.runtime.v1 import outbox_pb2
from redis.exceptions import RedisError

from services.allocator.store import SERVICE, functions
from services.runtime.acks import first_sequence
from services.runtime.cell import Cell
from services.runtime.errors import Unavailable
from services.runtime.tasks import ended
from tests.factories import unique


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
    try:
        yield ready
    finally:
        await ended([acknowledging])
        await ready.cell.close()
