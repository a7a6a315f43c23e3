"""The rules of leasing against a model, in random histories of a pool with six numbers left.

The model is the store in memory. It does not choose: it judges each choice of the real one, and
each refusal (POOL_EXHAUSTED only if no number can take the parties, AREA_EXHAUSTED only if none of
the areas can, a named number only for the reason that stands against it).
"""

import asyncio
import random
import uuid
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

from services.allocator import messages
from services.allocator.catalogue import CellCatalogue
from services.allocator.domain import (
    Block,
    BlockState,
    Import,
    Lease,
    Mark,
    Policy,
    Pool,
    Refusal,
    Refused,
    RouteChange,
    RouteState,
    Wish,
)
from services.allocator.fold import CellRouteFold
from services.allocator.pool import Permutation, scopes
from services.allocator.store import KEY_LABEL, CellNumberStore
from services.runtime.clock import ManualClock, SystemClock
from services.runtime.errors import FailedPrecondition
from services.runtime.keyring import MemoryKeyRing
from services.runtime.selection import Selection
from tests.unit.allocator.cells import PARTITIONS, ready_cell
from tests.unit.allocator.memory import MemoryNumberStore
from tests.unit.allocator.subject import FIRST, POOL

pytestmark = pytest.mark.both_stores

LEFT = 3
LONG = 3_600_000  # cooling never ends within a history
AREAS = {"70010000001": "440300", "70010000002": "440100"}
TAGS = st.sampled_from([bytes([n]) * 16 for n in range(4)])
# An exclusive pool that remembers nobody, one that remembers pairs, a shared one.
POOLS = st.sampled_from([
    Pool(POOL, Policy.EXCLUSIVE, 1000, 1, 0),
    Pool(POOL, Policy.EXCLUSIVE, 1000, 1, 1000 + LONG),
    Pool(POOL, Policy.SHARED, LONG, 1, LONG),
])  # fmt: skip
SELECTIONS = st.builds(
    Selection,
    areas=st.lists(st.sampled_from(["440000", "440300", "440100", "110000"]), max_size=2).map(
        tuple
    ),
    strict=st.booleans(),
    sticky=st.booleans(),
    random=st.booleans(),
).filter(lambda selection: selection.areas or not selection.strict)
Taken = tuple[Lease, tuple[bytes, ...]]


class Leasing(RuleBasedStateMachine):
    """Real store and model in step. `url` is set by the test.

    The same draws make the same history, or hypothesis could not repeat one: the same numbers and
    choices each time.
    """

    url: str
    keys = MemoryKeyRing()
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

    @initialize(pool=POOLS)
    def begin(self, pool: Pool) -> None:
        self.run(self._begin(pool))

    async def _begin(self, pool: Pool) -> None:
        ready = await self.stack.enter_async_context(ready_cell(self.url))
        below = random.Random(0).randrange
        self.real = CellNumberStore(ready.cell, self.keys, PARTITIONS, below)
        self.catalogue = CellCatalogue(ready.cell, PARTITIONS)
        self.fold = CellRouteFold(ready.cell)
        self.clock = ManualClock(SystemClock().now())
        self.model = MemoryNumberStore(self.clock)
        await self.catalogue.create_pool(pool)
        await self.model.create_pool(pool)
        key = self.keys.derive(f"serials/{POOL.tenant}", KEY_LABEL)
        self.numbers: list[str] = []
        for digits, area in AREAS.items():
            block = Block(digits, POOL, 1, area)
            await self.model.register_block(block)
            place = (10_000 - LEFT, 0, area, block.state.value)
            args = (digits, 1, POOL.path, *place, messages.block_base(block))
            await ready.cell.call("restore_block", args=args)
            self.numbers += Permutation(key, digits).numbers(10_000 - LEFT, LEFT)
        for number in self.numbers:
            self.model._touch(number)
        self.pool = pool

    def fitting(self, wish: Wish, area: str = "") -> set[str]:
        return {n for n in self.numbers if self.model._fits(self.pool, n, wish, area)}

    @rule(
        target=leases,
        tags=st.lists(TAGS, max_size=2, unique=True),
        selection=SELECTIONS,
        data=st.data(),
    )
    def lease(self, tags: list[bytes], selection: Selection, data: st.DataObject) -> Any:
        shared = self.pool.policy is Policy.SHARED
        # An exclusive number that is refused while untouched rests; not modelled.
        excluded = data.draw(st.lists(st.sampled_from(self.numbers), max_size=2)) if shared else []
        wish = Wish(tuple(tags), tuple(excluded), selection)
        (lease,) = self.run(self.real.lease(POOL, [wish], 0)).leases
        areas = [*selection.areas, *([] if selection.strict else [""])]
        again = [n for n in self.numbers if self.model.may_have_again(self.pool, n, wish)]
        if isinstance(lease, Refusal):
            assert lease.reason is (Refused.AREA if selection.strict else Refused.EXHAUSTED)
            assert not any(self.fitting(wish, area) for area in areas)
            assert not (selection.sticky and again)
            return multiple()
        assert lease.sticky == (selection.sticky and bool(again))
        if lease.sticky:
            assert lease.number in again
        else:
            first = next(area for area in areas if self.fitting(wish, area))
            assert lease.number in self.fitting(wish, first)
        return self.took(lease, wish)

    @rule(
        target=leases,
        tags=st.lists(TAGS, max_size=2, unique=True),
        sticky=st.booleans(),
        data=st.data(),
    )
    def lease_by_name(self, tags: list[bytes], sticky: bool, data: st.DataObject) -> Any:
        number = data.draw(st.sampled_from([*self.numbers, "700999999990001"]))
        wish = Wish(tuple(tags), (), Selection(number=number, sticky=sticky))
        refusal = self.model.refused(self.pool, wish)
        again = number in self.numbers and self.model.may_have_again(self.pool, number, wish)
        (lease,) = self.run(self.real.lease(POOL, [wish], 0)).leases
        if isinstance(lease, Refusal):
            assert lease == refusal
            assert not (sticky and again)
            return multiple()
        assert (lease.number, lease.sticky) == (number, refusal is not None)
        assert refusal is None or (sticky and again)
        return self.took(lease, wish)

    def took(self, lease: Lease, wish: Wish) -> Taken:
        self.model._touch(lease.number)
        held = self.model._numbers[lease.number]
        held.leases[lease.epoch] = (lease.deadline_ms, wish.tags)
        self.model._note(lease.number)
        return (lease, wish.tags)

    @rule(target=bindings, tag=TAGS, data=st.data())
    def take_over(self, tag: bytes, data: st.DataObject) -> Any:
        """An import, its repeat, and its binding."""
        number = data.draw(st.sampled_from(self.numbers))
        until = self.clock.epoch_ms() + 60_000
        wish = Wish((tag,), (), Selection(number=number))
        refusal = self.model.refused(self.pool, wish)
        each = Import(number, str(uuid.uuid4()), until, (tag,))
        (first,) = self.run(self.real.import_numbers(POOL, [each])).leases
        (again,) = self.run(self.real.import_numbers(POOL, [each])).leases
        assert first == again
        if isinstance(first, Refusal):
            assert first == refusal
            return multiple()
        assert (refusal, first.number, first.deadline_ms) == (None, number, until)
        # It does not run out within a history, so `run_out` would be refused.
        self.took(first, wish)
        return self.bind((first, (tag,)))

    def both(self, change: RouteChange) -> None:
        moved = {FIRST: (self.offset, self.offset + 1)}
        for fold in (self.fold, self.model):
            assert self.run(fold.follow([(FIRST, self.offset, change)], moved))
        self.offset += 1

    @rule(target=bindings, taken=st.one_of(consumes(leases), consumes(ran_out)))
    def bind_one(self, taken: Taken) -> Any:
        return self.bind(taken)

    def bind(self, taken: Taken) -> Taken:
        lease, tags = taken
        binding = f"b{lease.epoch}"
        self.both(RouteChange(RouteState.ACTIVE, lease.number, binding, 1, lease.epoch, 0, tags))
        return taken

    @rule(target=released, bound=consumes(bindings), cools=st.sampled_from(["no", "short", "long"]))
    def release(self, bound: Taken, cools: str) -> Any:
        """`short`: the number's own rest is over at once, its pair's is not."""
        lease, tags = bound
        till = 1 if cools == "no" else self.clock.epoch_ms() + (1 if cools == "short" else LONG)
        change = (RouteState.RELEASED, lease.number, f"b{lease.epoch}", 2, lease.epoch, till, tags)
        self.both(RouteChange(*change))
        while cools == "short" and SystemClock().epoch_ms() <= till:
            self.run(asyncio.sleep(0.001))
        return (lease, tags) if cools == "no" else multiple()

    @rule(ended=consumes(released))
    def forget(self, ended: Taken) -> None:
        self.both(RouteChange(RouteState.FORGOTTEN, ended[0].number, f"b{ended[0].epoch}"))

    @rule(taken=consumes(leases))
    def give_back(self, taken: Taken) -> None:
        for store in (self.real, self.model):
            assert self.run(store.return_leases([taken[0]])) == 1

    @rule(target=ran_out, taken=consumes(leases))
    def run_out(self, taken: Taken) -> Any:
        """A late binding may still come of it."""
        self.clock.set(SystemClock().now())
        for store in (self.real, self.model):
            assert self.run(store.expire([taken[0]])) == 1
        return taken

    @rule(data=st.data(), mark=st.sampled_from(Mark), on=st.booleans())
    def mark(self, data: st.DataObject, mark: Mark, on: bool) -> None:
        number = data.draw(st.sampled_from(self.numbers))
        for store in (self.real, self.model):
            self.run(store.mark(number, mark, on, "why", 1))

    @rule(
        block=st.sampled_from(sorted(AREAS)),
        wanted=st.sampled_from([
            BlockState.SUSPENDED, BlockState.ACTIVE, BlockState.ACTIVE, BlockState.ACTIVE,
            BlockState.RETIRING,
        ]),
    )  # fmt: skip
    def change_block(self, block: str, wanted: BlockState) -> None:
        if wanted is BlockState.RETIRING and block == min(AREAS):
            return  # one goes on, or the rest of the history is empty
        answers = []
        for catalogue in (self.catalogue, self.model):
            try:
                answers.append(self.run(catalogue.change_block(block, wanted, "why")).state)
            except FailedPrecondition as refusal:
                answers.append(refusal.metadata["state"])
        assert answers[0] == answers[1]

    @invariant()
    @precondition(lambda self: hasattr(self, "pool"))
    def agree(self) -> None:
        assert self.run(self.catalogue.retire_drained()) == self.run(self.model.retire_drained())
        self.clock.set(SystemClock().now())
        for number in self.numbers:
            real, model = (self.run(s.get_number(number)) for s in (self.real, self.model))
            assert (real.state, real.pairs) == (model.state, model.pairs)
        real, model = (self.run(s.statistics(POOL)) for s in (self.catalogue, self.model))
        assert real == model

    def teardown(self) -> None:
        self.run(self.stack.aclose())
        self.loop.close()


def test_the_areas_of_the_pool_overlap() -> None:
    assert scopes("440300")[:2] == scopes("440100")[:2] == ("", "440000")


@pytest.mark.timeout(150)
def test_leases_follow_the_rules(valkey_url: str) -> None:
    Leasing.url = valkey_url
    run_state_machine_as_test(
        Leasing,
        settings=settings(
            max_examples=40,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
