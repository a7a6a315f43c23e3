"""Blocks and pools, in memory and on a real Valkey: what is suspended or retired gives no lease."""

from collections.abc import AsyncIterator

import pytest

from services.allocator.domain import (
    UNKNOWN,
    BlockState,
    Policy,
    PoolId,
    RouteChange,
    RouteState,
    State,
    Statistics,
    Wish,
)
from services.allocator.fold import CellRouteFold
from services.runtime.clock import SystemClock
from services.runtime.errors import FailedPrecondition, NotFound
from tests.unit.allocator.cells import ReadyCell, catalogue_of, make_pool, ready_cell, store_of
from tests.unit.allocator.subject import BLOCK, FIRST, POOL, A, B, Subject, subject_of

OTHER = "70010000002"


@pytest.fixture(params=["memory", "valkey_url", "cluster_url"])
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    async with subject_of(request.param, request.getfixturevalue) as made:
        yield made


async def test_a_suspended_block_gives_no_lease_until_it_is_resumed(subject: Subject) -> None:
    await subject.pool(Policy.EXCLUSIVE)
    lease = await subject.lease(A, B)
    suspended = await subject.catalogue.change_block(BLOCK, BlockState.SUSPENDED, "complaints")
    assert suspended.state is BlockState.SUSPENDED
    assert (await subject.refused(A, B))[0] == "POOL_EXHAUSTED"
    assert await subject.state(lease.number) is State.LEASED, "what was leased stands"
    again = await subject.catalogue.change_block(BLOCK, BlockState.SUSPENDED, "again")
    assert again == suspended
    await subject.catalogue.change_block(BLOCK, BlockState.ACTIVE, "over")
    assert (await subject.lease(A, B)).number != lease.number


async def test_a_retiring_block_drains_and_is_retired_for_ever(subject: Subject) -> None:
    await subject.pool(Policy.EXCLUSIVE, (BLOCK, ""), (OTHER, ""))
    assert await subject.catalogue.change_block(OTHER, BlockState.RETIRING, "given back")
    assert (await subject.catalogue.get_block(OTHER)).state is BlockState.RETIRED
    lease = await subject.lease(A, B)
    assert lease.number.startswith(BLOCK)
    retiring = await subject.catalogue.change_block(BLOCK, BlockState.RETIRING, "given back")
    assert retiring.state is BlockState.RETIRING
    assert await subject.catalogue.retire_drained() == 0
    assert await subject.store.return_leases([lease]) == 1
    assert await subject.catalogue.retire_drained() == 1
    assert (await subject.catalogue.get_block(BLOCK)).state is BlockState.RETIRED
    with pytest.raises(FailedPrecondition, match="BLOCK_STATE"):
        await subject.catalogue.change_block(BLOCK, BlockState.ACTIVE, "no")
    assert (await subject.refused(A, B))[0] == "POOL_EXHAUSTED"
    counted = await subject.catalogue.statistics(POOL)
    assert (counted.total, counted.free, counted.retired) == (20_000, 0, 20_000)


async def test_pools_and_blocks_are_listed_in_pages(subject: Subject) -> None:
    await subject.pool(Policy.SHARED, (OTHER, "440300"), (BLOCK, ""))
    assert [b.block for b in await subject.catalogue.list_blocks(POOL, "", 10)] == [BLOCK, OTHER]
    [second] = await subject.catalogue.list_blocks(POOL, BLOCK, 1)
    assert (second.block, second.area) == (OTHER, "440300")
    assert [p.id for p in await subject.catalogue.list_pools(POOL.tenant, "", 10)] == [POOL]
    assert await subject.catalogue.list_pools("other", "", 10) == []


async def test_what_does_not_exist_is_not_found(subject: Subject) -> None:
    with pytest.raises(NotFound, match="POOL_NOT_FOUND"):
        await subject.catalogue.get_pool(PoolId("didi", "none"))
    with pytest.raises(NotFound, match="POOL_NOT_FOUND"):
        await subject.catalogue.list_blocks(PoolId("didi", "none"), "", 1)
    with pytest.raises(NotFound, match="BLOCK_NOT_FOUND"):
        await subject.catalogue.get_block(BLOCK)
    with pytest.raises(NotFound, match="BLOCK_NOT_FOUND"):
        await subject.catalogue.change_block(BLOCK, BlockState.SUSPENDED, "why")


async def observed(ready: ReadyCell) -> Statistics:
    [(pool, found)] = [each async for each in catalogue_of(ready).observe()]
    assert pool == POOL
    return found


@pytest.mark.parametrize("policy", [Policy.EXCLUSIVE, Policy.SHARED])
async def test_an_outlook_comes_of_the_last_hour(valkey_url: str, policy: Policy) -> None:
    """Time is the store's own, so what was noted is moved into the past."""
    async with ready_cell(valkey_url) as ready:
        await make_pool(ready, policy)
        for _ in range(2):
            assert (await observed(ready)).outlook == UNKNOWN
        notes = ready.cell.key("use") + f":{POOL.path}"
        redis, now = ready.cell.redis, SystemClock().epoch_ms()
        assert await redis.llen(notes) == 1, "one a minute"
        store, left = store_of(ready), 10_000 if policy is Policy.EXCLUSIVE else 2_000_000
        await redis.delete(notes)
        await redis.rpush(notes, f"{now - 1_800_000}:0", f"{now - 7_200_000}:7")
        [lease] = (await store.lease(POOL, [Wish((A, B))], 9000)).given
        change = RouteChange(RouteState.ACTIVE, lease.number, "b", 1, lease.epoch, 0, (A, B))
        assert await CellRouteFold(ready.cell).follow([(FIRST, 0, change)], {FIRST: (0, 1)})
        found = (await catalogue_of(ready).statistics(POOL)).outlook
        assert found.growth_per_hour == 2
        assert found.left_ms == pytest.approx((left - 1) * 1_800_000, rel=0.1)
        assert (await observed(ready)).outlook.growth_per_hour == 2
        assert await redis.llen(notes) == 3
