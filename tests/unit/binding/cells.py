"""A real cell of binding that is ready without Kafka: a task acknowledges its outbox."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from axbridge.runtime.v1 import outbox_pb2
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from redis.exceptions import RedisError

from services.binding.blacklistmessages import BlacklistMessages
from services.binding.blackliststore import CellBlacklist
from services.binding.consentmessages import ConsentMessages
from services.binding.consentstore import CellConsents
from services.binding.rebuild import BindingRebuild
from services.binding.records import Records
from services.binding.registerrebuild import RegisterRebuild
from services.binding.registers import RegisterRecords
from services.binding.registerstore import CellRegisters
from services.binding.routekeys import RouteKeys
from services.binding.store import LIBRARY, SERVICE, CellBindings
from services.binding.sweeps import CellSweeps
from services.binding.vault import KeyedTags, Vault
from services.runtime.acks import first_sequence
from services.runtime.cell import Cell
from services.runtime.clock import SystemClock
from services.runtime.envelope import Envelope
from services.runtime.errors import Unavailable
from services.runtime.keyring import KeyRing, MemoryKeyRing
from services.runtime.record import Record
from services.runtime.sealing import EvidenceWriter, PurgeSealer
from services.runtime.tasks import ended
from tests.factories import unique

RECORDS = Records(
    dict.fromkeys(
        (
            "binding.bindings.v1",
            "binding.state.v1",
            "binding.routes.v1",
            "binding.keys.v1",
            "binding.consents.v1",
            "binding.retention.v1",
        ),
        4,
    )
)
REGISTER_RECORDS = RegisterRecords(
    dict.fromkeys(
        ("binding.state.v1", "binding.consents.v1", "binding.blacklists.v1", "binding.denials.v1"),
        4,
    )
)
HEALER = b"healing"


@dataclass
class ReadyCell:
    """A cell, its store and rebuild, and all records that left its outbox."""

    cell: Cell
    keyring: KeyRing
    records: list[Record] = field(default_factory=list)

    def __post_init__(self) -> None:
        clock, tags = SystemClock(), KeyedTags(self.keyring)
        pair = X25519PrivateKey.generate()
        self.private, public = pair.private_bytes_raw(), pair.public_key().public_bytes_raw()
        vault = Vault(PurgeSealer(self.keyring), EvidenceWriter(public, self.keyring))
        keys = RouteKeys(self.cell, RECORDS, self.keyring, clock)
        self.tags = tags
        self.bindings = CellBindings(self.cell, RECORDS, vault, keys, clock)
        self.sweeps = CellSweeps(self.cell, self.bindings, RECORDS, clock)
        self.registers = CellRegisters(self.cell, REGISTER_RECORDS)
        messages = self.messages = ConsentMessages(PurgeSealer(self.keyring))
        self.consents = CellConsents(self.registers, messages)
        self.listed = BlacklistMessages(PurgeSealer(self.keyring))
        self.blacklist = CellBlacklist(self.registers, self.listed)
        openers = {**messages.openers, **self.listed.openers}
        kept = RegisterRebuild(self.registers, REGISTER_RECORDS, openers, clock)
        self.rebuild = BindingRebuild(self.cell, self.bindings, RECORDS, tags, clock, kept)

    async def begin(self, epoch: int, restored: Sequence[Record] = ()) -> None:
        """A heal, from records as Kafka would give them: topic after topic."""
        await self.cell.raw("heal_begin", args=("test", 600_000, HEALER))
        for topic in self.rebuild.topics:
            found = [record for record in restored if record.topic == topic]
            for start in range(0, len(found), 7):  # batches, so that folds go across them
                await self.rebuild.restore(found[start : start + 7], HEALER)
        first = first_sequence(epoch)
        await self.cell.raw("heal_epoch", args=("test", HEALER, epoch, first))
        await self.rebuild.finish(HEALER)
        run_id = await self.cell.run_id()
        await self.cell.raw("heal_done", args=("test", HEALER, epoch, run_id))
        await self.cell.refresh()

    async def acknowledge(self) -> None:
        """Reads and acknowledges for ever."""
        last = "0-0"
        while True:
            try:
                reply: Any = await self.cell.redis.xread({self.cell.key("outbox"): last}, 500, 1000)
                for name, fields in reply[0][1] if reply else []:
                    last = name.decode()
                    self.records += self._outgoing(int(last.split("-")[0]), fields[b"e"])
                sequence = last.split("-")[0]
                await self.cell.raw("ack", args=("test", int(sequence) >> 32, sequence))
                self.cell.acks.advance(int(sequence))
            except (RedisError, Unavailable):
                await asyncio.sleep(0.05)

    def _outgoing(self, sequence: int, entry: bytes) -> list[Record]:
        source = f"/axbridge/binding/{self.cell.name}"
        return [
            Record(
                r.topic, r.partition, sequence, r.key, None if r.tombstone else r.value,
                Envelope(r.event_id or "-", r.type, source, r.time_ms, r.version,
                         sequence >> 32, sequence).headers(),
                r.time_ms,
            )
            for r in outbox_pb2.OutboxEntry.FromString(entry).records
        ]  # fmt: skip

    def on(self, topic: str) -> list[Record]:
        """What was published on a topic."""
        return [record for record in self.records if record.topic == topic]

    async def snapshot(self) -> dict[str, object]:
        """Everything the store holds of bindings, in comparable form."""
        found: dict[str, object] = {}
        redis: Any = self.cell.redis
        prefix = self.cell.key("")
        async for key in redis.scan_iter(match=prefix.replace("{", "\\{") + "*", count=1000):
            name = key.decode().removeprefix(prefix)
            if name in ("meta", "outbox", "positions"):
                continue
            kind = (await redis.type(key)).decode()
            if kind == "hash":
                value = await redis.hgetall(key)
                value.pop(b"sq", None)
                if value.get(b"pairs") == b"0":
                    del value[b"pairs"]
                if int(value.get(b"cool", 0)) <= time.time() * 1000:  # a rest that is over
                    value.pop(b"cool", None)
                found[name] = value
            elif kind == "zset":
                found[name] = await redis.zrange(key, 0, -1, withscores=True)
            else:
                found[name] = await redis.get(key)
        return found

    async def wipe(self) -> None:
        """Loses the cell's keys, as a lost store does."""
        async for key in self.cell.redis.scan_iter(match=f"*{self.cell.name}*", count=1000):
            await self.cell.redis.delete(key)


@asynccontextmanager
async def ready_cell(url: str) -> AsyncIterator[ReadyCell]:
    """A cell of its own name on the shared server."""
    ready = ReadyCell(Cell(url, SERVICE, unique("t"), LIBRARY), MemoryKeyRing())
    await ready.cell.load()
    await ready.begin(1)
    acknowledging = asyncio.create_task(ready.acknowledge())
    try:
        yield ready
    finally:
        await ended([acknowledging])
        await ready.cell.close()
