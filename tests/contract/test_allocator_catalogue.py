"""Blocks and pools, in memory and on a real Valkey: what is suspended or retired gives no lease."""

from collections.abc import AsyncIterator

import pytest

from services.allocator.domain import BlockState, Policy, PoolId, State
from services.runtime.errors import FailedPrecondition, NotFound
from tests.unit.allocator.subject import BLOCK, POOL, A, B, Subject, subject_of

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
