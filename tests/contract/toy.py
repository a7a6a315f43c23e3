"""The smallest service that lives in a cell: names with a value and a version. For tests."""

from collections.abc import Callable, Sequence
from pathlib import Path

from axbridge.runtime.v1 import outbox_pb2

from services.runtime.cell import Cell, library
from services.runtime.clock import Clock
from services.runtime.envelope import header_int
from services.runtime.errors import contradicted
from services.runtime.owner import Owner
from services.runtime.publisher import Publishing
from services.runtime.record import Record

TOY = library("toy", [Path(__file__).parent / "lua" / "toy.lua"])


class Toy:
    """Writes `name = value` with the next version; state topic keyed by name, one partition."""

    def __init__(self, url: str, cell: str, topic: str, clock: Clock | None = None) -> None:
        self.cell = Cell(url, "toy", cell, TOY, clock=clock)
        self.topic = topic
        self.topics: Sequence[str] = (topic,)

    def owner(self, bootstrap: str, connect: Callable[[], Publishing] | None = None) -> Owner:
        return Owner(self.cell, bootstrap, self, connect=connect)

    async def put(self, name: str, value: str, version: int) -> int:
        """Returns the outbox sequence; 0 if `version` is not the next one."""
        entry = self._entry(name, value, version)
        reply = await self.cell.call("put", [self.cell.key("v", name)], [value, version, entry])
        return int(reply[1])

    async def get(self, name: str) -> tuple[str, int] | None:
        _, value, version = await self.cell.call("get", [self.cell.key("v", name)])
        return (value.decode(), int(version)) if value else None

    def cell_record(self, epoch: int) -> outbox_pb2.OutboxRecord:
        return outbox_pb2.OutboxRecord(
            topic=self.topic,
            key=b"cell/" + self.cell.name.encode(),
            type="Cell",
            value=b"%d" % epoch,
        )

    async def restore(self, records: Sequence[Record], store_epoch: bytes) -> None:
        for record in records:
            name, version = record.key.decode(), header_int(record.headers, "ce_axversion")
            if not name.startswith("cell/"):
                await self.cell.call_as(
                    store_epoch,
                    "restore",
                    [self.cell.key("v", name)],
                    [record.value or b"", version],
                )

    async def finish(self, store_epoch: bytes) -> None:
        pass

    async def repair(self, record: Record, *, overrule: bool = False) -> bool:
        name, seen = record.key.decode(), header_int(record.headers, "ce_axversion")
        current = await self.get(name)
        if current is None:
            return False
        if current[1] == seen:
            if current[0].encode() == record.value:
                return False
            if not overrule:
                raise contradicted()

        version = current[1] if current[1] > seen else seen + 1
        await self.cell.call(
            "republish",
            [self.cell.key("v", name)],
            [current[1], version, self._entry(name, current[0], version)],
        )
        return True

    async def announce(self) -> None:
        prefix = self.cell.key("v", "")
        async for key in self.cell.redis.scan_iter(match=f"*{self.cell.name}*:v:*"):
            name = key.decode().removeprefix(prefix)
            if (current := await self.get(name)) is not None:
                entry = self._entry(name, *current)
                keys = [self.cell.key("v", name)]
                await self.cell.call("republish", keys, [current[1], current[1], entry])

    def _entry(self, name: str, value: str, version: int) -> bytes:
        record = outbox_pb2.OutboxRecord(
            topic=self.topic,
            key=name.encode(),
            value=value.encode(),
            type="Toy",
            event_id=f"{name}-{version}",
            time_ms=1_800_000_000_000,
            version=version,
        )
        return outbox_pb2.OutboxEntry(records=[record]).SerializeToString()
