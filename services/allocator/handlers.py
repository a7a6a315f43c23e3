"""What may be asked of allocator, one method per rpc, in the order of the proto.

Refuses to know how numbers are stored or transported. Invariant: a handler makes one step in the
store; whatever it decides before or after that step rests on things that never change.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from services.allocator.domain import (
    Block,
    Lease,
    Leased,
    Number,
    Pool,
    PoolId,
    Statistics,
    Wish,
)
from services.allocator.ports import LeaseExpiry, NumberStore
from services.runtime.clock import Clock
from services.runtime.errors import AlreadyExists

_EXPIRED_AT_ONCE: Final = 500  # 2 ms of the store's time


class Allocator:
    """The use cases."""

    def __init__(self, store: NumberStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def create_pool(self, pool: Pool) -> Pool:
        """Raises AlreadyExists (POOL_EXISTS) where other settings stand."""
        stands = await self._store.create_pool(pool)
        if (stands.policy, stands.cooling_ms) != (pool.policy, pool.cooling_ms):
            raise AlreadyExists("POOL_EXISTS", "it has other settings", pool=pool.id.name)
        return stands

    async def get_pool(self, pool: PoolId) -> Pool:
        """Raises NotFound (POOL_NOT_FOUND)."""
        return await self._store.get_pool(pool)

    async def register_block(self, block: Block) -> Block:
        """Raises AlreadyExists (BLOCK_TAKEN) where it feeds another pool; NotFound."""
        stands = await self._store.register_block(block)
        if stands.pool != block.pool:
            raise AlreadyExists("BLOCK_TAKEN", "it feeds another pool", block=block.block)
        return stands

    async def get_number(self, number: str) -> Number:
        """Raises NotFound (NUMBER_NOT_FOUND)."""
        return await self._store.get_number(number)

    async def lease(self, pool: PoolId, wishes: Sequence[Wish], duration_ms: int) -> Leased:
        """Raises NotFound (POOL_NOT_FOUND)."""
        return await self._store.lease(pool, wishes, duration_ms)

    async def return_leases(self, leases: Sequence[Lease]) -> int:
        """How many were live."""
        return await self._store.return_leases(leases)

    async def lock(self, number: str, reason: str) -> Number:
        """Raises NotFound (NUMBER_NOT_FOUND)."""
        return await self._store.lock(number, reason, self._clock.epoch_ms())

    async def unlock(self, number: str, reason: str) -> Number:
        """Raises NotFound (NUMBER_NOT_FOUND)."""
        return await self._store.unlock(number, reason)

    async def statistics(self, pool: PoolId) -> Statistics:
        """Raises NotFound (POOL_NOT_FOUND)."""
        return await self._store.statistics(pool)


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
