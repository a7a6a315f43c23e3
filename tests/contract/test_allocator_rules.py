"""The rules of leasing against a model, in random histories of a pool with five numbers left.

The model is the store in memory. It does not choose: it judges each choice of the real one, and
each refusal (POOL_EXHAUSTED only if no number can take the parties).
"""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from services.allocator import translate
from services.allocator.domain import (
    Block,
    Lease,
    Policy,
    Pool,
    PoolId,
    RouteChange,
    RouteState,
    Wish,
)
from services.allocator.fold import CellRouteFold
from services.allocator.pool import Permutation
from services.allocator.ports import Position
from services.allocator.store import KEY_LABEL, CellNumberStore
from services.runtime.clock import ManualClock, SystemClock
from services.runtime.keyring import MemoryKeyRing
from services.runtime.topics import ALLOCATOR_NUMBERS, ALLOCATOR_STATE, BINDING_ROUTES
from tests.unit.allocator.cells import ready_cell
from tests.unit.allocator.memory import MemoryNumberStore

pytestmark = pytest.mark.both_stores

POOL, BLOCK, LEFT = PoolId("didi", "city"), "70010000001", 5
LONG = 3_600_000  # cooling never ends within a history
TAGS = st.sampled_from([bytes([n]) * 16 for n in range(4)])
FIRST: Position = (BINDING_ROUTES.name, 0)


class Leasing(RuleBasedStateMachine):
    """Real store and model in step. `url` is set by the test."""

    url: str
    leases = Bundle("leases")
    bindings = Bundle("bindings")
    released = Bundle("released")
    ran_out = Bundle("ran_out")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.stack = AsyncExitStack()
        self.offset = 0

    def run(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    @initialize(policy=st.sampled_from(Policy))
    def begin(self, policy: Policy) -> None:
        self.run(self._begin(policy))

    async def _begin(self, policy: Policy) -> None:
        ready = await self.stack.enter_async_context(ready_cell(self.url))
        keys, pool = MemoryKeyRing(), Pool(POOL, policy, LONG, 1)
        partitions = {ALLOCATOR_NUMBERS.name: 4, ALLOCATOR_STATE.name: 4}
        self.real = CellNumberStore(ready.cell, keys, partitions)
        self.fold = CellRouteFold(ready.cell)
        await self.real.create_pool(pool)
        block = Block(BLOCK, POOL, 1)
        record = translate.block_out(block).SerializeToString()
        args = (BLOCK, 1, POOL.path, 10_000 - LEFT, 0, record)
        await ready.cell.call("restore_block", args=args)
        key = keys.derive(f"serials/{POOL.tenant}", KEY_LABEL)
        self.numbers = Permutation(key, BLOCK).numbers(10_000 - LEFT, LEFT)
        self.clock = ManualClock(SystemClock().now())
        self.model = MemoryNumberStore(self.clock)
        await self.model.create_pool(pool)
        await self.model.register_block(block)
        for number in self.numbers:
            self.model._touch(number)
        self.pool = pool

    @rule(target=leases, tags=st.lists(TAGS, max_size=2, unique=True), data=st.data())
    def lease(self, tags: list[bytes], data: st.DataObject) -> Any:
        shared = self.pool.policy is Policy.SHARED
        # An exclusive number that is refused while untouched rests; not modelled.
        excluded = data.draw(st.lists(st.sampled_from(self.numbers), max_size=2)) if shared else []
        wish = Wish(tuple(tags), tuple(excluded))
        (lease,) = self.run(self.real.lease(POOL, [wish], 0)).leases
        fitting = {n for n in self.numbers if self.model._fits(self.pool, n, wish)}
        if lease is None:
            assert not fitting
            return multiple()
        assert lease.number in fitting
        held = self.model._numbers[lease.number]
        held.leases[lease.epoch] = (lease.deadline_ms, wish.tags)
        return (lease, wish.tags)

    def both(self, change: RouteChange) -> None:
        moved = {FIRST: (self.offset, self.offset + 1)}
        for fold in (self.fold, self.model):
            assert self.run(fold.follow([(FIRST, self.offset, change)], moved))
        self.offset += 1

    @rule(target=bindings, taken=st.one_of(consumes(leases), consumes(ran_out)))
    def bind(self, taken: tuple[Lease, tuple[bytes, ...]]) -> Any:
        lease, tags = taken
        binding = f"b{lease.epoch}"
        self.both(RouteChange(RouteState.ACTIVE, lease.number, binding, 1, lease.epoch, 0, tags))
        return (lease, tags)

    @rule(target=released, bound=consumes(bindings), cools=st.booleans())
    def release(self, bound: tuple[Lease, tuple[bytes, ...]], cools: bool) -> Any:
        lease, tags = bound
        till = self.clock.epoch_ms() + LONG if cools else 1
        change = (RouteState.RELEASED, lease.number, f"b{lease.epoch}", 2, lease.epoch, till, tags)
        self.both(RouteChange(*change))
        return multiple() if cools else (lease, tags)

    @rule(ended=consumes(released))
    def forget(self, ended: tuple[Lease, tuple[bytes, ...]]) -> None:
        self.both(RouteChange(RouteState.FORGOTTEN, ended[0].number, f"b{ended[0].epoch}"))

    @rule(taken=consumes(leases))
    def give_back(self, taken: tuple[Lease, tuple[bytes, ...]]) -> None:
        for store in (self.real, self.model):
            assert self.run(store.return_leases([taken[0]])) == 1

    @rule(target=ran_out, taken=consumes(leases))
    def run_out(self, taken: tuple[Lease, tuple[bytes, ...]]) -> Any:
        """A late binding may still come of it."""
        self.clock.set(SystemClock().now())
        for store in (self.real, self.model):
            assert self.run(store.expire([taken[0]])) == 1
        return taken

    @rule(data=st.data(), locks=st.booleans())
    def lock_or_unlock(self, data: st.DataObject, locks: bool) -> None:
        number = data.draw(st.sampled_from(self.numbers))
        for store in (self.real, self.model):
            if locks:
                self.run(store.lock(number, "why", 1))
            else:
                self.run(store.unlock(number, "why"))

    @invariant()
    @precondition(lambda self: hasattr(self, "pool"))
    def agree(self) -> None:
        self.clock.set(SystemClock().now())
        for number in self.numbers:
            real, model = (self.run(s.get_number(number)) for s in (self.real, self.model))
            assert (real.state, real.pairs) == (model.state, model.pairs)
        real, model = (self.run(s.statistics(POOL)) for s in (self.real, self.model))
        assert (real.leased, real.bound, real.cooling, real.locked, real.pairs) == (
            model.leased,
            model.bound,
            model.cooling,
            model.locked,
            model.pairs,
        )

    def teardown(self) -> None:
        self.run(self.stack.aclose())
        self.loop.close()


@pytest.mark.timeout(110)
def test_leases_follow_the_rules(valkey_url: str) -> None:
    Leasing.url = valkey_url
    run_state_machine_as_test(
        Leasing,
        settings=settings(
            max_examples=25,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
