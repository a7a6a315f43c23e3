"""Restores and repairs the cell from Kafka: implements runtime.rebuild.Rebuild.

What a flushed store loses and how it comes back: pools, blocks with their cursors and states,
locks, reserves and imports stand in `allocator.state.v1`; what is bound or cools, and which parties
rest from which number, is folded anew from `binding.routes.v1`, from its beginning to the end it
has now; both before anyone may lease again. Open leases are gone. Numbers below a cursor that are
then neither bound, cooling nor locked may be in a binding's hands under a forgotten lease: in an
exclusive pool they cool. Numbers leased above the cursor that Kafka knows (their lease was not
acknowledged yet) may be leased a second time; binding refuses one of the two.

Invariant: nothing is written before everything of `allocator.state.v1` was read, since a block may
stand before its pool on another partition.
"""

from collections.abc import Sequence
from typing import Final

from axbridge.allocator.v1 import events_pb2
from axbridge.runtime.v1 import outbox_pb2
from google.protobuf.message import DecodeError

from services.allocator import messages
from services.allocator.domain import PoolId
from services.allocator.fold import CellRouteFold
from services.allocator.pool import Permutation
from services.allocator.ports import Contradicted
from services.allocator.store import KEY_LABEL
from services.runtime.cell import Argument, Cell, unavailable
from services.runtime.choice import FIRST_CELL
from services.runtime.clock import Clock
from services.runtime.consumer import Position
from services.runtime.envelope import header_int, header_text
from services.runtime.errors import Malformed, contradicted
from services.runtime.keyring import KeyRing
from services.runtime.rebuild import read_to_end
from services.runtime.record import Record
from services.runtime.topics import ALLOCATOR_STATE, BINDING_ROUTES, partition_of

_WALKED_AT_ONCE: Final = 500
_FOLDED_AT_ONCE: Final = 500
# In the order in which they need each other.
_KINDS: Final = ("pool", "block", "lock", "reserve", "import")


class AllocatorRebuild:
    """See Rebuild."""

    topics: Sequence[str] = (ALLOCATOR_STATE.name,)

    def __init__(
        self, cell: Cell, keys: KeyRing, bootstrap: str, partitions: int, clock: Clock
    ) -> None:
        self._cell = cell
        self._keys = keys
        self._bootstrap = bootstrap
        self._partitions = partitions
        self._clock = clock
        self._healing = b""
        self._read: dict[str, dict[str, Record]] = {}

    def cell_record(self, epoch: int) -> outbox_pb2.OutboxRecord:
        """See Rebuild."""
        key = f"cell/{self._cell.name}"
        state = events_pb2.StateRecord(version=epoch, cell=events_pb2.CellRecord(epoch=epoch))
        return outbox_pb2.OutboxRecord(
            topic=ALLOCATOR_STATE.name,
            partition=partition_of(key, self._partitions),
            key=key.encode(),
            value=state.SerializeToString(),
            type=state.DESCRIPTOR.full_name,
            time_ms=self._clock.epoch_ms(),
            version=epoch,
        )

    async def restore(self, records: Sequence[Record], store_epoch: bytes) -> None:
        """See Rebuild. Keeps the newest record of each key until `finish`."""
        if store_epoch != self._healing:  # what a heal read that did not come to its end is old
            self._healing, self._read = store_epoch, {}
        for record in records:
            if not self._ours(record):
                continue
            kind, rest = self._named(record)
            kept = self._read.setdefault(kind, {})
            if rest not in kept or _version(kept[rest]) <= _version(record):
                kept[rest] = record

    async def finish(self, store_epoch: bytes) -> None:
        """See Rebuild."""
        read, self._read = self._read, {}
        for kind in _KINDS:
            for rest, record in read.get(kind, {}).items():
                await self._restore(kind, rest, record, store_epoch)
        await self._refold(store_epoch)
        for record in read.get("block", {}).values():
            if record.value is not None:
                await self._rest_walked(
                    events_pb2.StateRecord.FromString(record.value), store_epoch
                )

    async def repair(self, record: Record, *, overrule: bool = False) -> bool:
        """See Rebuild."""
        kind, rest = self._named(record)
        if kind not in _KINDS or not self._ours(record):
            return False
        partition = partition_of(f"{kind}/{rest}", self._partitions)
        args = (
            kind,
            rest,
            _version(record),
            partition,
            record.value or b"",
            int(overrule),
            record.key,
        )
        reply = await self._cell.call("repair", args=args)
        if reply[0] == b"CONTRADICTED":
            raise contradicted()
        return bool(reply[1])

    async def announce(self) -> None:
        """See Rebuild. Locks stand in the hashes of their numbers."""
        kinds = {self._cell.key(kind, "").encode(): kind for kind in ("pool", "block", "number")}
        async for key in self._cell.redis.scan_iter(count=1000):
            for prefix, kind in kinds.items():
                if key.startswith(prefix):
                    rest = key.removeprefix(prefix).decode()
                    await self._announce("lock" if kind == "number" else kind, rest)

    async def _announce(self, kind: str, rest: str) -> None:
        name = f"{kind}/{rest}"
        several = kind == "pool" and self._cell.name != FIRST_CELL
        key = f"{name}@{self._cell.name}" if several else name
        partition = partition_of(name, self._partitions)
        await self._cell.call("repair", args=(kind, rest, 0, partition, b"", 0, key))

    def _named(self, record: Record) -> tuple[str, str]:
        """Kind and id in a record's key; a pool's may end with the cell (store/context.lua)."""
        kind, _, rest = record.key.decode().partition("/")
        return kind, rest.partition("@")[0]

    def _ours(self, record: Record) -> bool:
        """Cells share the topic; each restores its own. A record without a source is nobody's."""
        return header_text(record.headers, "ce_source") == self._cell.source

    async def _restore(self, kind: str, rest: str, record: Record, epoch: bytes) -> None:
        state = events_pb2.StateRecord()
        try:
            state.ParseFromString(record.value or b"")
        except DecodeError:
            raise Malformed("STATE_MALFORMED", topic=record.topic) from None  # ends the heal
        version = _version(record)
        if kind in ("lock", "reserve"):
            mark = state.lock if kind == "lock" else state.reserve
            stands = mark.SerializeToString() if record.value else b""
            await self._call(epoch, "restore_mark", rest, version, kind, stands)
        elif record.value is None:  # it is over, or a repair has overruled it
            return
        elif kind == "pool":
            data = state.pool.SerializeToString()
            pool = messages.pool_stored(data)
            settings = (pool.policy.value, pool.cooling_ms, pool.pair_cooling_ms, data)
            await self._call(epoch, "restore_pool", rest, version, *settings)
        elif kind == "block":
            block = messages.block_of(state.block.block)
            walked = (state.block.cursor, state.block.lease_epoch)
            place = (block.pool.path, *walked, block.area, block.state.value)
            data = messages.block_base(block)
            await self._call(epoch, "restore_block", rest, version, *place, data)
        else:
            held = state.imported
            until = messages.millis(held.expire_time)
            lease = (held.import_id, held.lease_epoch, until, record.partition)
            await self._call(epoch, "restore_import", held.number, version, *lease)

    async def _refold(self, epoch: bytes) -> None:
        """Folds the routes from their beginning. Malformed ones were parked when first seen."""
        fold = CellRouteFold(self._cell, epoch)
        await fold.forget_positions()
        at: dict[Position, int] = {}

        async def take(records: Sequence[Record]) -> None:
            for first in range(0, len(records), _FOLDED_AT_ONCE):
                items, moved = [], dict[Position, tuple[int, int]]()
                for record in records[first : first + _FOLDED_AT_ONCE]:
                    position = (record.topic, record.partition)
                    moved[position] = (at.get(position, 0), record.offset + 1)
                    try:
                        items.append((position, record.offset, messages.route_change(record)))
                    except Malformed:
                        continue
                while True:
                    try:
                        if not await fold.follow(items, moved):
                            raise unavailable("STORE_HEALING")  # another healer took over
                        break
                    except Contradicted as found:  # as malformed ones
                        for place in sorted(found.places, reverse=True):
                            del items[place]
                at.update({position: end for position, (_, end) in moved.items()})

        ends = await read_to_end(self._bootstrap, BINDING_ROUTES.name, take)
        await fold.follow([], {p: (at.get(p, 0), end) for p, end in ends.items()})

    async def _rest_walked(self, state: events_pb2.StateRecord, epoch: bytes) -> None:
        block = messages.block_of(state.block.block)
        numbers = self._permutation(block.pool, block.block).numbers(0, state.block.cursor)
        for first in range(0, len(numbers), _WALKED_AT_ONCE):
            some = numbers[first : first + _WALKED_AT_ONCE]
            await self._call(epoch, "restore_walked", block.pool.path, *some)

    def _permutation(self, pool: PoolId, block: str) -> Permutation:
        return Permutation(self._keys.derive(f"serials/{pool.tenant}", KEY_LABEL), block)

    async def _call(self, epoch: bytes, function: str, *args: Argument) -> None:
        reply = await self._cell.call_as(epoch, function, args=args)
        if reply[0] == b"STORE_HEALING":  # another healer took over
            raise unavailable("STORE_HEALING")


def _version(record: Record) -> int:
    return header_int(record.headers, "ce_axversion")
