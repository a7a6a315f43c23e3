"""The use cases on the store in memory."""

from datetime import timedelta

import pytest

from services.allocator.domain import Block, Mark, Policy, Pool, PoolId, State, Wish
from services.allocator.handlers import Allocator, expire_leases
from services.runtime.clock import ManualClock
from services.runtime.errors import AlreadyExists
from tests.unit.allocator.memory import MemoryNumberStore

POOL = PoolId("didi", "city")
BLOCK = "70010000001"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store(clock: ManualClock) -> MemoryNumberStore:
    return MemoryNumberStore(clock)


@pytest.fixture
def allocator(store: MemoryNumberStore, clock: ManualClock) -> Allocator:
    return Allocator(store, store, clock)


async def test_a_pool_keeps_its_settings(allocator: Allocator) -> None:
    first = await allocator.create_pool(Pool(POOL, Policy.SHARED, 1000, 1))
    assert await allocator.create_pool(Pool(POOL, Policy.SHARED, 1000, 2)) == first
    for other in (
        Pool(POOL, Policy.EXCLUSIVE, 1000, 2),
        Pool(POOL, Policy.SHARED, 1001, 2),
        Pool(POOL, Policy.SHARED, 1000, 2, 1001),
    ):
        with pytest.raises(AlreadyExists, match="POOL_EXISTS"):
            await allocator.create_pool(other)
    assert await allocator.get_pool(POOL) == first


async def test_a_block_feeds_one_pool(allocator: Allocator) -> None:
    other = PoolId("meituan", "city")
    for pool in (POOL, other):
        await allocator.create_pool(Pool(pool, Policy.SHARED, 1000, 1))
    first = await allocator.register_block(Block(BLOCK, POOL, 1))
    assert await allocator.register_block(Block(BLOCK, POOL, 2)) == first
    with pytest.raises(AlreadyExists, match="BLOCK_TAKEN"):
        await allocator.register_block(Block(BLOCK, other, 2))
    with pytest.raises(AlreadyExists, match="BLOCK_EXISTS"):
        await allocator.register_block(Block(BLOCK, POOL, 2, "440300"))


async def test_pages_end_where_nothing_follows(allocator: Allocator) -> None:
    for name in ("b", "a", "c"):
        await allocator.create_pool(Pool(PoolId("didi", name), Policy.SHARED, 1000, 1))
    for serial in (2, 1, 3):
        await allocator.register_block(Block(f"7001000000{serial}", PoolId("didi", "b"), 1))
    first, last = await allocator.list_pools("didi", "", 2)
    assert ([pool.id.pool for pool in first], last) == (["a", "b"], "b")
    rest, last = await allocator.list_pools("didi", last, 2)
    assert ([pool.id.pool for pool in rest], last) == (["c"], "")
    assert (await allocator.list_pools("didi", "", 3))[1] == ""
    blocks, last = await allocator.list_blocks(PoolId("didi", "b"), "", 2)
    assert last == blocks[-1].block == "70010000002"
    blocks, last = await allocator.list_blocks(PoolId("didi", "b"), last, 2)
    assert ([block.block for block in blocks], last) == (["70010000003"], "")


async def test_nothing_runs_out_before_routes_are_consumed(
    allocator: Allocator, store: MemoryNumberStore, clock: ManualClock
) -> None:
    await allocator.create_pool(Pool(POOL, Policy.EXCLUSIVE, 60_000, 1))
    await allocator.register_block(Block(BLOCK, POOL, 1))
    (lease,) = (await allocator.lease(POOL, [Wish()], 1000)).given
    assert lease
    asked = 0

    async def caught_up() -> bool:
        nonlocal asked
        asked += 1
        return asked > 1

    assert await expire_leases(store, caught_up) == 0
    assert asked == 0  # Kafka is not asked while nothing is due
    clock.advance(timedelta(seconds=2))
    assert await expire_leases(store, caught_up) == 0
    assert (await allocator.get_number(lease.number)).state is State.LEASED
    assert await expire_leases(store, caught_up) == 1
    assert (await allocator.get_number(lease.number)).state is State.COOLING
    assert (await allocator.statistics(POOL)).cooling == 1
    locked = await allocator.mark(lease.number, Mark.LOCK, True, "why")
    assert locked.state is State.LOCKED
    assert (await allocator.mark(lease.number, Mark.LOCK, False, "over")).state is State.COOLING
    assert await allocator.return_leases([lease]) == 0
