"""One suite for the ports of allocator's store, on the one in memory and on a real Valkey."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from services.allocator.domain import (
    Block,
    Lease,
    Mark,
    Policy,
    Pool,
    PoolId,
    Refusal,
    RouteChange,
    RouteState,
    State,
    Wish,
)
from services.allocator.ports import Contradicted
from services.runtime.errors import NotFound
from tests.unit.allocator.memory import MemoryNumberStore
from tests.unit.allocator.subject import (
    BLOCK,
    COOLING,
    FIRST,
    POOL,
    A,
    B,
    C,
    D,
    Subject,
    subject_of,
)


@pytest.fixture(params=["memory", "valkey_url", "cluster_url"])
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    async with subject_of(request.param, request.getfixturevalue) as made:
        yield made


async def test_a_pool_and_a_block_are_created_once(subject: Subject) -> None:
    await subject.pool(Policy.EXCLUSIVE)
    again = await subject.catalogue.create_pool(Pool(POOL, Policy.SHARED, 5, 2000))
    assert (again.policy, again.cooling_ms, again.created_ms) == (Policy.EXCLUSIVE, COOLING, 1000)
    assert await subject.catalogue.get_pool(POOL) == again
    other = PoolId("didi", "other")
    await subject.catalogue.create_pool(Pool(other, Policy.SHARED, COOLING, 1000))
    assert (await subject.catalogue.register_block(Block(BLOCK, other, 2000))).pool == POOL
    assert (await subject.catalogue.statistics(POOL)).total == 10_000
    assert (await subject.catalogue.statistics(other)).total == 0


async def test_what_is_not_there(subject: Subject) -> None:
    for call in (
        subject.catalogue.get_pool(POOL),
        subject.catalogue.statistics(POOL),
        subject.store.lease(POOL, [Wish()], 1000),
        subject.catalogue.register_block(Block(BLOCK, POOL, 1)),
    ):
        with pytest.raises(NotFound, match="POOL_NOT_FOUND"):
            await call
    for other in (
        subject.store.get_number(f"{BLOCK}0001"),
        subject.store.mark(f"{BLOCK}0001", Mark.LOCK, True, "why", 1),
        subject.store.mark(f"{BLOCK}0001", Mark.LOCK, False, "why", 1),
    ):
        with pytest.raises(NotFound, match="NUMBER_NOT_FOUND"):
            await other


async def test_exclusive_leases_are_distinct_and_epochs_grow(subject: Subject) -> None:
    await subject.pool(Policy.EXCLUSIVE)
    seen: list[Lease] = []
    for size in (1, 16, 200, 3):
        leased = await subject.store.lease(POOL, [Wish()] * size, 9000)
        seen += leased.given
    assert len({lease.number for lease in seen}) == len(seen) == 220
    epochs = [lease.epoch for lease in seen]
    assert epochs == sorted(set(epochs))
    assert all(abs(lease.deadline_ms - subject.now_ms() - 9000) < 2000 for lease in seen)
    found = await subject.catalogue.statistics(POOL)
    assert (found.leased, found.free) == (220, 9_780)


async def test_concurrent_leases_are_distinct(subject: Subject) -> None:
    await subject.pool(Policy.EXCLUSIVE)
    answers = await asyncio.gather(
        *(subject.store.lease(POOL, [Wish()] * 20, 9000) for _ in range(30))
    )
    numbers = [lease.number for answer in answers for lease in answer.given]
    assert len(set(numbers)) == len(numbers) == 600


async def test_blocks_of_the_same_pool_all_serve(subject: Subject) -> None:
    await subject.pool(Policy.EXCLUSIVE)
    await subject.lease()
    await subject.catalogue.register_block(Block("70010000002", POOL, 1000))
    for _ in range(100):
        await subject.store.lease(POOL, [Wish()] * 200, 9000)
    found = await subject.catalogue.statistics(POOL)
    assert (found.total, found.free) == (20_000, 0)
    assert (await subject.store.lease(POOL, [Wish()] * 2, 9000)).given == []


async def test_a_returned_lease_is_free_at_once_and_used_after_the_fresh(subject: Subject) -> None:
    await subject.pool(Policy.EXCLUSIVE)
    lease = await subject.lease()
    assert await subject.store.return_leases([lease, lease, Lease(f"{BLOCK}9999", 4)]) == 1
    assert await subject.state(lease.number) is State.FREE
    assert await subject.store.return_leases([lease]) == 0
    numbers: list[str] = []
    for _ in range(50):
        leased = await subject.store.lease(POOL, [Wish()] * 200, 9000)
        numbers += [found.number for found in leased.given]
    assert len(numbers) == len(set(numbers)) == 10_000
    assert numbers[-1] == lease.number


async def test_life_of_an_exclusive_number(subject: Subject) -> None:
    await subject.pool(Policy.EXCLUSIVE)
    lease = await subject.lease()
    assert await subject.state(lease.number) is State.LEASED
    await subject.route(RouteState.ACTIVE, lease, "b1", 1, A, B)
    number = await subject.store.get_number(lease.number)
    assert (number.state, number.pairs) == (State.BOUND, 1)
    assert await subject.store.return_leases([lease]) == 0  # confirmed: nothing to return
    await subject.route(RouteState.RELEASED, lease, "b1", 2, A, B, rest=COOLING)
    number = await subject.store.get_number(lease.number)
    assert (number.state, number.pairs) == (State.COOLING, 0)
    assert number.cool_until_ms > subject.now_ms()
    assert (await subject.catalogue.statistics(POOL)).cooling == 1
    await subject.wait(COOLING)
    assert await subject.state(lease.number) is State.FREE
    await subject.route(RouteState.FORGOTTEN, lease, "b1", 0)
    found = await subject.catalogue.statistics(POOL)
    assert (found.free, found.bound, found.cooling, found.pairs) == (10_000, 0, 0, 0)


async def test_old_and_repeated_records_change_nothing(subject: Subject) -> None:
    await subject.pool(Policy.EXCLUSIVE)
    lease = await subject.lease()
    await subject.route(RouteState.RELEASED, lease, "b1", 2, A, B, rest=COOLING)
    await subject.route(RouteState.ACTIVE, lease, "b1", 1, A, B)
    assert await subject.state(lease.number) is State.COOLING
    change = RouteChange(RouteState.ACTIVE, lease.number, "b9", 1, 0, 0, (A, B))
    assert await subject.fold.follow([(FIRST, 0, change)], {FIRST: (0, 1)})  # covered
    assert await subject.state(lease.number) is State.COOLING
    assert await subject.fold.positions() == {FIRST: 2}
    assert not await subject.fold.follow([], {FIRST: (7, 8)})  # a gap
    foreign = RouteChange(RouteState.ACTIVE, "700999999990001", "b1", 1)
    assert await subject.fold.follow([(FIRST, 2, foreign)], {FIRST: (2, 3)})


async def test_a_lease_that_ran_out_cools_and_a_late_binding_takes_it_back(
    subject: Subject,
) -> None:
    await subject.pool(Policy.EXCLUSIVE)
    lease = await subject.lease(life=50)
    kept = await subject.lease()
    assert await subject.expiry.expire([lease]) == 0  # not yet
    assert await subject.expiry.due(10) == []
    await subject.wait(60)
    due = await subject.expiry.due(10)
    assert [(found.number, found.epoch) for found in due] == [(lease.number, lease.epoch)]
    assert await subject.expiry.expire([*due, kept]) == 1
    assert await subject.state(lease.number) is State.COOLING
    assert await subject.expiry.due(10) == []
    await subject.route(RouteState.ACTIVE, lease, "b1", 1, A, B)
    assert await subject.state(lease.number) is State.BOUND
    found = await subject.catalogue.statistics(POOL)
    assert (found.bound, found.leased, found.cooling, found.free) == (1, 1, 0, 9_998)


async def test_a_locked_number_is_not_leased(subject: Subject) -> None:
    await subject.pool(Policy.EXCLUSIVE)
    lease = await subject.lease()
    locked = await subject.store.mark(lease.number, Mark.LOCK, True, "abuse", 1)
    assert locked.state is State.LOCKED
    assert await subject.store.mark(lease.number, Mark.LOCK, True, "again", 2) == locked
    untouched = f"{BLOCK}{(int(lease.number[11:]) + 1) % 10_000:04d}"
    await subject.store.mark(untouched, Mark.LOCK, True, "abuse", 1)
    assert (await subject.catalogue.statistics(POOL)).locked == 2
    await subject.store.return_leases([lease])
    numbers = set()
    for _ in range(50):
        leased = await subject.store.lease(POOL, [Wish()] * 200, 9000)
        numbers |= {found.number for found in leased.given}
    assert len(numbers) == 9_998
    assert not numbers & {lease.number, untouched}
    for number in (lease.number, untouched):
        assert (await subject.store.mark(number, Mark.LOCK, False, "over", 1)).state is State.FREE
    freed = await subject.store.mark(untouched, Mark.LOCK, False, "over", 1)
    assert freed.version > locked.version
    leased = await subject.store.lease(POOL, [Wish()] * 3, 9000)
    assert {found.number for found in leased.given} == {lease.number, untouched}
    assert isinstance(leased.leases[2], Refusal)


async def test_excluded_numbers_are_passed_over(subject: Subject) -> None:
    await subject.pool(Policy.EXCLUSIVE)
    first = await subject.lease()
    await subject.store.return_leases([first])
    every = tuple(f"{BLOCK}{serial:04d}" for serial in range(200))
    second = await subject.lease(excluded=every)
    assert second.number not in every
    found = await subject.catalogue.statistics(POOL)
    assert found.free + found.cooling + found.leased == 10_000


async def test_shared_numbers_take_many_pairs_but_no_party_twice(subject: Subject) -> None:
    await subject.pool(Policy.SHARED)
    first = await subject.lease(A, B)
    second = await subject.lease(C, D)
    third = await subject.lease(A, C)
    assert first.number == second.number != third.number
    assert (await subject.lease(B, D)).number == third.number
    assert (await subject.lease(excluded=(first.number,))).number == third.number
    found = await subject.catalogue.statistics(POOL)
    assert (found.leased, found.free) == (2, 9_998)


async def test_a_shared_number_takes_200_pairs(subject: Subject) -> None:
    await subject.pool(Policy.SHARED)
    wishes = [Wish((b"%016d" % (2 * n), b"%016d" % (2 * n + 1))) for n in range(401)]
    leased = [
        *(await subject.store.lease(POOL, wishes[:200], 9000)).given,
        *(await subject.store.lease(POOL, wishes[200:400], 9000)).given,
        *(await subject.store.lease(POOL, wishes[400:], 9000)).given,
    ]
    numbers = [lease.number for lease in leased]
    assert [numbers.count(number) for number in dict.fromkeys(numbers)] == [200, 200, 1]


async def test_parties_cool_on_a_shared_number_and_nobody_else(subject: Subject) -> None:
    await subject.pool(Policy.SHARED)
    lease = await subject.lease(A, B)
    await subject.route(RouteState.ACTIVE, lease, "b1", 1, A, B)
    await subject.route(RouteState.RELEASED, lease, "b1", 2, A, B, rest=COOLING)
    assert await subject.state(lease.number) is State.FREE
    assert (await subject.catalogue.statistics(POOL)).cooling == 0
    other = await subject.lease(A, C)
    assert other.number != lease.number
    await subject.wait(COOLING)
    await subject.route(RouteState.FORGOTTEN, lease, "b1", 0)
    await subject.store.return_leases([other])
    assert (await subject.catalogue.statistics(POOL)).leased == 0


async def test_a_shared_lease_that_ran_out_cools_for_its_parties(subject: Subject) -> None:
    await subject.pool(Policy.SHARED)
    lease = await subject.lease(A, B, life=30)
    for keep in (await subject.lease(C, D), await subject.lease(b"F" * 16)):
        assert keep.number == lease.number
    await subject.wait(40)
    assert await subject.expiry.expire(await subject.expiry.due(10)) == 1
    assert (await subject.lease(A)).number != lease.number
    assert (await subject.lease(b"E" * 16)).number == lease.number


async def test_returning_a_mistaken_lease_leaves_the_binding_on_the_number(
    subject: Subject,
) -> None:
    """allocator leased X to A before it had heard that A is on X; binding refused and returns."""
    await subject.pool(Policy.SHARED)
    lease = await subject.lease(A, B)
    await subject.route(RouteState.ACTIVE, Lease(lease.number, 0), "b1", 1, A, C)
    await subject.store.return_leases([lease])
    assert (await subject.lease(A, D)).number != lease.number
    assert (await subject.lease(B, D)).number == lease.number


async def test_exhausted_only_if_no_number_can_take_both(subject: Subject) -> None:
    size = 10_000
    if isinstance(subject.store, MemoryNumberStore):
        size = subject.store.block_size = 300  # it looks through all numbers for each lease
    await subject.pool(Policy.SHARED)
    leases: list[Lease] = []
    for _ in range(size // 100):
        leased = await subject.store.lease(POOL, [Wish((A,))] * 100, 60_000)
        leases += leased.given
    assert len(leases) == size
    assert len({lease.number for lease in leases}) == len(leases)
    two = await subject.store.lease(POOL, [Wish((A, C)), Wish((A,))], 9000)
    assert two.given == []
    await subject.lease(B, C)
    free = leases[len(leases) // 2]
    await subject.store.return_leases([free])
    assert (await subject.lease(A, D)).number == free.number
    assert await subject.refused(D, A) == ("POOL_EXHAUSTED", "")


async def test_what_contradicts_a_known_version_is_told_and_the_rest_applied(
    subject: Subject,
) -> None:
    await subject.pool(Policy.SHARED)
    lease = await subject.lease(A, B)
    change = RouteChange(RouteState.ACTIVE, lease.number, "b", 1, lease.epoch, 0, (A, B))
    await subject.fold.follow([(FIRST, 0, change)], {FIRST: (0, 1)})
    wrong = RouteChange(RouteState.RELEASED, lease.number, "b", 1, lease.epoch, 9, (A, B))
    other = RouteChange(RouteState.ACTIVE, lease.number, "c", 1, 0, 0, (C, D))
    items = [(FIRST, 1, change), (FIRST, 2, wrong), (FIRST, 3, other)]
    with pytest.raises(Contradicted) as told:
        await subject.fold.follow(items, {FIRST: (1, 4)})
    assert told.value.places == [1]
    assert (await subject.store.get_number(lease.number)).pairs == 2
    assert await subject.fold.positions() == {FIRST: 1}
    del items[1]
    assert await subject.fold.follow(items, {FIRST: (1, 4)})
    assert await subject.fold.positions() == {FIRST: 4}
    assert (await subject.store.get_number(lease.number)).pairs == 2
