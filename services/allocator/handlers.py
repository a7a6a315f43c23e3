"""What may be asked of allocator, one method per rpc, in the order of the proto.

Refuses to know how numbers are stored or transported. Invariant: a handler makes one step in the
store; whatever it decides before or after that step rests on things that never change.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final

from services.allocator.domain import (
    Block,
    BlockState,
    Import,
    Lease,
    Leased,
    Mark,
    Number,
    Pool,
    PoolId,
    State,
    Statistics,
    Wish,
)
from services.allocator.ports import Catalogue, LeaseExpiry, NumberStore
from services.allocator.sizing import Advice, Load, advise
from services.runtime.clock import Clock
from services.runtime.errors import AlreadyExists

_EXPIRED_AT_ONCE: Final = 500  # 2 ms of the store's time


class Allocator:
    """The use cases."""

    def __init__(self, catalogue: Catalogue, store: NumberStore, clock: Clock) -> None:
        self._catalogue = catalogue
        self._store = store
        self._clock = clock

    async def create_pool(self, pool: Pool) -> Pool:
        """Raises AlreadyExists (POOL_EXISTS) where other settings stand."""
        stands = await self._catalogue.create_pool(pool)
        if replace(stands, created_ms=pool.created_ms) != pool:
            raise AlreadyExists("POOL_EXISTS", "it has other settings", pool=pool.id.name)
        return stands

    async def get_pool(self, pool: PoolId) -> Pool:
        """Raises NotFound (POOL_NOT_FOUND)."""
        return await self._catalogue.get_pool(pool)

    async def list_pools(self, tenant: str, after: str, limit: int) -> tuple[Sequence[Pool], str]:
        """A page, and the name to go on behind; empty after the last."""
        found = await self._catalogue.list_pools(tenant, after, limit + 1)
        return found[:limit], found[limit - 1].id.pool if len(found) > limit else ""

    async def register_block(self, block: Block) -> Block:
        """Raises AlreadyExists (BLOCK_TAKEN) where it feeds another pool, (BLOCK_EXISTS) where it
        has another area; NotFound."""
        stands = await self._catalogue.register_block(block)
        if stands.pool != block.pool:
            raise AlreadyExists("BLOCK_TAKEN", "it feeds another pool", block=block.block)
        if stands.area != block.area:
            raise AlreadyExists("BLOCK_EXISTS", "it has another area", block=block.block)
        return stands

    async def get_block(self, block: str) -> Block:
        """Raises NotFound (BLOCK_NOT_FOUND)."""
        return await self._catalogue.get_block(block)

    async def list_blocks(
        self, pool: PoolId, after: str, limit: int
    ) -> tuple[Sequence[Block], str]:
        """A page, and the digits to go on behind. Raises NotFound (POOL_NOT_FOUND)."""
        found = await self._catalogue.list_blocks(pool, after, limit + 1)
        return found[:limit], found[limit - 1].block if len(found) > limit else ""

    async def change_block(self, block: str, wanted: BlockState, reason: str) -> Block:
        """Raises NotFound (BLOCK_NOT_FOUND), FailedPrecondition (BLOCK_STATE)."""
        return await self._catalogue.change_block(block, wanted, reason)

    async def get_number(self, number: str) -> Number:
        """Raises NotFound (NUMBER_NOT_FOUND)."""
        return await self._store.get_number(number)

    async def list_numbers(
        self, pool: PoolId, after: str, limit: int, state: State | None
    ) -> tuple[Sequence[Number], str]:
        """A page, and the digits to go on behind. Raises NotFound (POOL_NOT_FOUND)."""
        return await self._store.list_numbers(pool, after, limit, state)

    async def lease(self, pool: PoolId, wishes: Sequence[Wish], duration_ms: int) -> Leased:
        """Raises NotFound (POOL_NOT_FOUND)."""
        return await self._store.lease(pool, wishes, duration_ms)

    async def import_numbers(self, pool: PoolId, imports: Sequence[Import]) -> Leased:
        """Raises NotFound (POOL_NOT_FOUND)."""
        return await self._store.import_numbers(pool, imports)

    async def return_leases(self, leases: Sequence[Lease]) -> int:
        """How many were live."""
        return await self._store.return_leases(leases)

    async def mark(self, number: str, mark: Mark, on: bool, reason: str) -> Number:
        """Locks, reserves, or ends either. Raises NotFound (NUMBER_NOT_FOUND)."""
        return await self._store.mark(number, mark, on, reason, self._clock.epoch_ms())

    async def statistics(self, pool: PoolId) -> Statistics:
        """Raises NotFound (POOL_NOT_FOUND)."""
        return await self._catalogue.statistics(pool)

    def advise(self, load: Load) -> Advice:
        """Touches nothing."""
        return advise(load)


async def expire_leases(store: LeaseExpiry, caught_up: Callable[[], Awaitable[bool]]) -> int:
    """Sends leases that ran out to cooling; how many.

    Not before everything that binding had published by now is folded: a lease that was confirmed
    in time must not be taken for one that ran out. A confirmation that comes later still takes the
    number back.
    """
    due = await store.due(_EXPIRED_AT_ONCE)
    if not due or not await caught_up():
        return 0
    return await store.expire(due)
