"""Pools and blocks in a cell: implements ports.Catalogue.

Refuses to know numbers one by one (store.py). Invariant: an answer to a write is on Kafka when it
leaves here, a repeat's too.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final

from services.allocator import messages
from services.allocator.cells import checked, waited
from services.allocator.domain import Block, BlockState, Pool, PoolId, Statistics
from services.allocator.sizing import outlook
from services.runtime.cell import Cell
from services.runtime.errors import FailedPrecondition
from services.runtime.topics import ALLOCATOR_NUMBERS, ALLOCATOR_STATE, partition_of

_AT_ONCE: Final = 100


class CellCatalogue:
    """See ports.Catalogue. `partitions`: how many each topic has."""

    def __init__(self, cell: Cell, partitions: Mapping[str, int]) -> None:
        self._cell = cell
        self._numbers = partitions[ALLOCATOR_NUMBERS.name]
        self._state = partitions[ALLOCATOR_STATE.name]

    async def create_pool(self, pool: Pool) -> Pool:
        path, record = pool.id.path, messages.pool_out(pool).SerializeToString()
        settings = (pool.policy.value, pool.cooling_ms, pool.pair_cooling_ms)
        where = (self._event(path), self._record(f"pool/{path}"))
        args = (path, *settings, record, *where)
        _, sequence, stands = await self._cell.call("create_pool", args=args)
        await waited(self._cell, sequence)
        return messages.pool_stored(stands)

    async def get_pool(self, pool: PoolId) -> Pool:
        reply = await self._cell.call("get_pool", args=(pool.path,))
        return messages.pool_stored(checked(reply, pool=pool.name)[1])

    async def list_pools(self, tenant: str, after: str, limit: int) -> Sequence[Pool]:
        reply = await self._cell.call("list_pools", args=(tenant, after, limit))
        return [messages.pool_stored(record) for record in reply[1:]]

    async def register_block(self, block: Block) -> Block:
        digits, record = block.block, messages.block_base(block)
        where = self._block_places(digits)
        args = (digits, block.pool.path, block.area, record, block.pool.tenant, *where)
        reply = checked(await self._cell.call("register_block", args=args), pool=block.pool.name)
        await waited(self._cell, reply[1])
        return messages.block_stored(reply[2])

    async def get_block(self, block: str) -> Block:
        reply = checked(await self._cell.call("get_block", args=(block,)), block=block)
        return messages.block_stored(reply[1])

    async def list_blocks(self, pool: PoolId, after: str, limit: int) -> Sequence[Block]:
        reply = await self._cell.call("list_blocks", args=(pool.path, after, limit))
        return [messages.block_stored(record) for record in checked(reply, pool=pool.name)[1:]]

    async def change_block(self, block: str, wanted: BlockState, reason: str) -> Block:
        args = (block, wanted.value, reason, *self._block_places(block))
        reply = await self._cell.call("change_block", args=args)
        if reply[0] == b"BLOCK_STATE":
            state = BlockState(int(reply[1])).name
            raise FailedPrecondition(
                "BLOCK_STATE", "not from the state it is in", block=block, state=state
            )
        checked(reply, block=block)
        await waited(self._cell, reply[1])
        return messages.block_stored(reply[2])

    async def retire_drained(self) -> int:
        retired = 0
        for digits in (await self._cell.call("drained"))[1:]:
            block = digits.decode()
            reply = await self._cell.call("retired", args=(block, *self._block_places(block)))
            retired += int(reply[1])
        return retired

    async def statistics(self, pool: PoolId) -> Statistics:
        return await self._statistics(pool.path, 0)

    async def observe(self) -> AsyncIterator[tuple[PoolId, Statistics]]:
        after = ""
        while paths := (await self._cell.call("pool_paths", args=(after, _AT_ONCE)))[1:]:
            for path in paths:
                after = path.decode()
                yield PoolId(*after.split("/")), await self._statistics(after, 1)

    async def _statistics(self, path: str, note: int) -> Statistics:
        reply = await self._cell.call("statistics", args=(path, note))
        checked(reply, pool="tenants/{}/pools/{}".format(*path.split("/")))
        total, *counts = (int(count) for count in reply[1:])
        leased, bound, cooling, locked, reserved, suspended, retired, pairs, *rest = counts
        free = total - leased - bound - cooling - locked - reserved - suspended - retired
        return Statistics(
            total, free, leased, bound, cooling, locked, pairs, reserved, suspended, retired,
            tuple(rest[4:]), outlook(*rest[:4]),
        )  # fmt: skip

    def _block_places(self, block: str) -> tuple[int, int]:
        return self._event(block), self._record(f"block/{block}")

    def _event(self, subject: str) -> int:
        return partition_of(subject, self._numbers)

    def _record(self, key: str) -> int:
        return partition_of(key, self._state)
