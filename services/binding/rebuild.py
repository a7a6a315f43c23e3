"""Restores and repairs the cell's bindings from its compacted topics; implements runtime's Rebuild.

Refuses to resurrect what a newer record ended. Invariant: the newest version of a binding wins,
whatever the order and number of times its records are read; what reached the routes and was never
acknowledged is ended or overruled with a higher version.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from axbridge.binding.v1 import events_pb2
from axbridge.runtime.v1 import outbox_pb2

from services.binding.domain import Binding, Reason
from services.binding.ledger import Ledger, Place
from services.binding.messages import binding_of, read_route, read_state
from services.binding.ports import Stored
from services.binding.records import Records
from services.binding.refill import Refill
from services.binding.registerrebuild import RegisterRebuild
from services.binding.store import CellBindings, Put
from services.binding.vault import KeyedTags
from services.runtime import topics
from services.runtime.cell import Argument, Cell
from services.runtime.clock import Clock
from services.runtime.envelope import header_int
from services.runtime.errors import Malformed, contradicted
from services.runtime.record import Record
from services.runtime.telemetry import logger
from services.runtime.wrapping import route_key_over

# What a version decides; other fields may be younger than the record.
_WHOLE: Final = ("number", "state", "expire_time", "tag_a", "tag_b", "callee_a", "callee_b")
_STEP: Final = 500  # of what is published again: a relay's batch
_STEP_SECONDS: Final = 30.0
_LOG: Final = logger(__name__)


class BindingRebuild:
    """One per process. What `restore` keeps in mind, `finish` of the same heal uses up, or the next
    heal forgets."""

    topics: Sequence[str] = (
        topics.BINDING_STATE.name,
        topics.BINDING_KEYS.name,
        topics.BINDING_ROUTES.name,
        topics.BINDING_DENIALS.name,
    )

    def __init__(
        self,
        cell: Cell, bindings: CellBindings, records: Records, tags: KeyedTags, clock: Clock,
        registers: RegisterRebuild,
    ) -> None:  # fmt: skip
        self._cell = cell
        self._bindings = bindings
        self._records = records
        self._refill = Refill(cell, bindings, tags, clock)
        self._ledger = Ledger(cell, records, clock)
        self._clock = clock
        self._registers = registers
        self._source = cell.source.encode()
        self._announcers: dict[str, Callable[[str], Awaitable[int]]] = {
            "binding": self._announce,
            "key": self._announce_key,
            "register": registers.announce_name,
        }
        self._announced = tuple(cell.key(kind, "").encode() for kind in self._announcers)
        self._healing = b""
        self._suspects: dict[str, events_pb2.Route] = {}

    def cell_record(self, epoch: int) -> outbox_pb2.OutboxRecord:
        """See Rebuild."""
        return self._records.cell(self._cell.name, epoch, self._clock.epoch_ms())

    async def restore(self, records: Sequence[Record], store_epoch: bytes) -> None:
        """See Rebuild. The state topic comes first: routes are judged by what it restored."""
        if store_epoch != self._healing:
            self._healing, self._suspects = store_epoch, {}
            await self._refill.begin()
            self._registers.begin()
        newest = _newest([record for record in records if self._is_ours(record)])
        newest = list(await self._registers.restore(newest, store_epoch))
        if records[0].topic == topics.BINDING_ROUTES.name:
            await self._refill.settle()
            await self._judge(newest, store_epoch)
            return
        if records[0].topic == topics.BINDING_STATE.name:
            newest = await self._ledger.restore(newest, store_epoch)
            newest = await self._refill.put(newest, store_epoch)
        await asyncio.gather(*(self._restore(record, store_epoch) for record in newest))

    async def finish(self, store_epoch: bytes) -> None:
        """See Rebuild. Routes above the state were never acknowledged: their callers were told to
        retry."""
        recent = await self._refill.settle()
        suspects, self._suspects = self._suspects, {}
        for route in suspects.values():
            await self._overrule(route, store_epoch)
        if suspects:
            _LOG.warning("unacknowledged routes overruled", count=len(suspects))
        await asyncio.gather(*(self._announce(each, store_epoch) for each in recent))
        await self._ledger.finish(store_epoch)
        await self._registers.finish(store_epoch)
        await self._refill.begin()  # used up

    async def _announce(self, binding: str, epoch: bytes | None = None) -> int:
        """Publishes the version that stands once more; what to wait for. After a heal: of the last
        entries that a relay handled before the loss, the state may have arrived and the route or
        the event not."""
        stored = await self._get(binding, epoch)
        return 0 if stored is None else await self._republish(stored, epoch)

    async def repair(self, record: Record, *, overrule: bool = False) -> bool:
        """See Rebuild."""
        if not self._is_ours(record):
            return False
        if record.topic == topics.BINDING_KEYS.name:
            return await self._repair_key(record)
        if (place := Place.parse(record.key.decode())) is not None:
            return await self._ledger.repair(place, record)
        if (kept := await self._registers.repair(record)) is not None:
            return kept
        stored, seen = await self._get(record.key.decode().partition("/")[2]), _version(record)
        if stored is None and record.value is None:
            return False
        if stored is not None and (record.value is None or seen < stored.binding.version):
            await self._republish(stored)
            return True
        assert record.value is not None
        if stored is not None and seen == stored.binding.version:
            if self._says(_route(record), stored):
                return False
            if not overrule:
                raise contradicted()
        await self._overrule(_route(record))
        return True

    async def announce(self) -> None:
        """See Rebuild. In steps that Kafka has before the next: an outbox has its limit."""
        some: list[str] = []
        async for key in self._cell.redis.scan_iter(count=1000):
            some += [key.decode("latin-1")] if key.startswith(self._announced) else []
            if len(some) >= _STEP:
                await self._announce_all(some)
                some = []
        await self._announce_all(some)

    async def _announce_all(self, keys: Sequence[str]) -> None:
        prefix = self._cell.key("")
        names = [key.removeprefix(prefix).partition(":") for key in keys]
        sequences = await asyncio.gather(*(self._announcers[k](name) for k, _, name in names))
        await self._cell.published(max(sequences, default=0), _STEP_SECONDS)

    async def _announce_key(self, key_id: str) -> int:
        key = self._cell.key("key", key_id)
        found: list[Any] = await self._cell.redis.hmget(key, ["r", "v"])
        stands, version = found
        if not stands:  # it has just ended
            return 0
        now = self._clock.epoch_ms()
        entry = self._records.route_key(key_id, stands, now, int(version))
        return int((await self._cell.call("republish", [key], [version, entry]))[1])

    def _says(self, route: events_pb2.Route, stored: Stored) -> bool:
        """Whether the route is that of the version which stands."""
        ours = self._bindings.route(stored, route.number)
        return all(getattr(route, name) == getattr(ours, name) for name in _WHOLE)

    def _is_ours(self, record: Record) -> bool:
        """Cells share the topics, and each knows its records by their source."""
        return ("ce_source", self._source) in record.headers

    async def _restore(self, record: Record, epoch: bytes) -> None:
        """A route key, or a tombstone of a binding."""
        if record.topic == topics.BINDING_KEYS.name:
            key_id = record.key.decode()
            key, over = self._cell.key("key", key_id), route_key_over(key_id, self._clock.now())
            # A frozen relay may have put it behind its tombstone: one that is over stays away.
            args: list[Argument] = [b"" if over else record.value or b"", _version(record)]
            await self._cell.call_under(epoch, "restore_key", [key], args)
            return
        stored = await self._get(record.key.decode().partition("/")[2], epoch)
        if stored is not None:
            await self._cell.call_under(epoch, "forget", *self._bindings.dropping(stored, b""))

    async def _judge(self, records: Sequence[Record], epoch: bytes) -> None:
        """Keeps a route in mind as long as it is the last of its key and above the state."""
        places = [record.key.decode() for record in records]
        keys = [self._bindings.places.binding(place.partition("/")[2]) for place in places]
        known = await self._cell.call_under(epoch, "versions", keys, [])
        for place, record, version in zip(places, records, known[1:], strict=True):
            if record.value is None:
                self._suspects.pop(place, None)
            elif (seen := _version(record)) > int(version):
                before = self._suspects.get(place)
                if before is None or seen > before.version:
                    self._suspects[place] = _route(record)

    async def _overrule(self, route: events_pb2.Route, epoch: bytes | None = None) -> None:
        """Ends a creation that was never acknowledged; takes back a change that was not."""
        stored = await self._get(route.binding, epoch)
        now = self._clock.epoch_ms()
        if stored is None and route.release_reason:  # its tombstone got lost on this topic
            entry = self._records.tombstones(
                binding_of(events_pb2.BindingRecord(route=route)).numbers,
                route.binding, route.version, now,
            )  # fmt: skip
            key = self._bindings.places.binding(route.binding)
            await self._cell.call_under(epoch, "republish", [key], ["0", entry])
            return
        if stored is None:
            binding = binding_of(events_pb2.BindingRecord(route=route))
            ended = binding.released(now, Reason.UNCONFIRMED, route.version + 1)
            # Its pool's cooling is not known: whoever forgot it, nobody was told the number.
            put = self._bindings.bare(replace(ended, create_ms=now))
            await self._put(epoch, ended, put, 0)
            return
        old, version = stored.binding, route.version + 1
        if version <= old.version:
            return
        if old.live and route_key_over(self._bindings.route_key_id(old), self._clock.now()):
            new = old.released(now, Reason.EXPIRED, version)  # a day ago: its copies do not open
        elif not old.live:
            new = replace(old, version=version, update_ms=now)
        elif route.release_reason:  # somebody was told to retry a release: it has happened
            new = old.released(now, Reason(route.release_reason), version)
        else:
            new = replace(old, version=version, update_ms=now)
        put = await self._bindings.again(stored, new, epoch)
        await self._put(epoch, new, put, old.version)

    async def _republish(self, stored: Stored, epoch: bytes | None = None) -> int:
        binding = stored.binding
        args: list[Argument] = [binding.version, self._bindings.same(stored)]
        key = self._bindings.places.binding(binding.id)
        reply = await self._cell.call_under(epoch, "republish", [key], args)
        return int(reply[1]) if reply[0] == b"OK" else 0  # STALE: changed, and so published

    async def _repair_key(self, record: Record) -> bool:
        key_id = record.key.decode()
        key = self._cell.key("key", key_id)
        found: list[Any] = await self._cell.redis.hmget(key, ["r", "v"])
        stands, version = found
        if (stands or None) == record.value:
            return False
        # What the store does not have has been destroyed: the record came late.
        newer = max(_version(record), int(version or 0)) + 1
        entry = self._records.route_key(key_id, stands or b"", self._clock.epoch_ms(), newer)
        await self._cell.call("republish", [key], [version or "0", entry])
        return True

    async def _put(self, epoch: bytes | None, binding: Binding, put: Put, before: int) -> None:
        requests, answers = self._bindings.places.answers(binding, self._clock.epoch_ms())
        args = [*put.args, before, *answers]
        await self._cell.call_under(epoch, "restore", [*put.keys, *requests], args)

    async def _get(self, binding: str, epoch: bytes | None = None) -> Stored | None:
        reply = await self._cell.call_under(
            epoch, "get", [self._bindings.places.binding(binding)], []
        )
        return self._bindings.stored(reply[1], reply[2]) if reply[1] else None


def _route(record: Record) -> events_pb2.Route:
    """The route of a record of either topic. Raises Malformed."""
    assert record.value is not None
    if record.topic == topics.BINDING_ROUTES.name:
        return read_route(record.value)
    message = read_state(record.value)
    if message is None:
        raise Malformed("STATE_MALFORMED")
    return message.route


def _newest(records: Sequence[Record]) -> list[Record]:
    """The one of each key that stands: the highest version, a tombstone unless a record follows.
    A stale record may stand behind a newer one (services/runtime/repair.py)."""
    newest: dict[bytes, Record] = {record.key: record for record in records}
    if len(newest) < len(records):
        newest = {}
    for record in records if not newest else ():
        before = newest.get(record.key)
        if (
            before is None
            or before.value is None
            or record.value is None
            or _version(record) >= _version(before)
        ):
            newest[record.key] = record
    return [each for key, each in newest.items() if not key.startswith(b"cell/")]


def _version(record: Record) -> int:
    return header_int(record.headers, "ce_axversion")
