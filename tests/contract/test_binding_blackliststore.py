"""One suite for ports.Blacklist and for creates that are judged by it, in memory and on Valkey."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest

from services.binding import modes
from services.binding.blacklist import Entry, EntryState, Target
from services.binding.domain import Answered, Direction, Lease, Mode
from services.binding.ports import Blacklist, Lost, StoredEntry, Swept, Taken
from services.runtime.clock import Clock, ManualClock, SystemClock
from services.runtime.errors import FailedPrecondition
from services.runtime.ids import TimeOrderedIds
from services.runtime.phone import PhoneNumber
from tests.unit.binding.cells import ready_cell
from tests.unit.binding.memory import POOL, TENANT, MemoryBindings, binding, terms
from tests.unit.binding.memory_blacklist import MemoryBlacklist, entry

IDS = TimeOrderedIds()
A, B = PhoneNumber("+8613512345678"), PhoneNumber("+8613612345678")
TAG_A, TAG_B = b"a" * 16, b"b" * 16


@dataclass
class Subject:
    """A store of entries beside one of bindings."""

    blacklist: Blacklist
    bindings: Swept
    clock: Clock
    epoch: int = 0

    async def add(
        self, caller: bytes, callee: bytes = b"", pool: str = "", life_ms: int = 3_600_000
    ) -> Entry:
        target = Target(caller, callee, pool)
        before = await self.blacklist.mark(TENANT, target)
        made = entry(self.clock.epoch_ms(), IDS.new(), target, life_ms)
        if before:
            made = replace(made, create_ms=before.create_ms + 1)
        sequence = await self.blacklist.put(made, made.requests[0], before)
        await self.blacklist.published(sequence, 5)
        return made

    async def end(self, old: Entry) -> None:
        ended = old.ended(self.clock.epoch_ms())
        await self.blacklist.published(await self.blacklist.put(ended, None), 5)

    async def bound(self, pool: str = POOL, direction: Direction = Direction.BOTH) -> str:
        """Binds A and B; what refuses it, or nothing."""
        self.epoch += 1
        now = self.clock.epoch_ms()
        clock = ManualClock()
        clock.advance(timedelta(milliseconds=now - clock.epoch_ms()))
        made = binding(clock, IDS.new(), number=f"7001{self.epoch:011d}", lease_epoch=self.epoch)
        made = replace(
            made, terms=replace(made.terms, pool=pool, direction=direction),
            requests=(replace(made.requests[0], request_id=IDS.new()),),
        )  # fmt: skip
        lease = Lease(made.number, self.epoch, now + 30_000, True, 60_000)
        try:
            await self.bindings.create(made, A, B, b"o" * 16, lease)
        except FailedPrecondition as refusal:
            return f"{refusal.metadata['scope']} {refusal.metadata['target']}"  # no other has them
        return ""


@pytest.fixture(params=["memory", "valkey"])
async def s(request: pytest.FixtureRequest, valkey_url: str) -> AsyncIterator[Subject]:
    if request.param == "memory":
        clock = ManualClock()
        bindings = MemoryBindings(clock)
        yield Subject(MemoryBlacklist(bindings), bindings, clock)
    else:
        async with ready_cell(valkey_url) as ready:
            yield Subject(ready.blacklist, ready.bindings, SystemClock())


async def test_a_listed_number_is_not_bound_on_either_side(s: Subject) -> None:
    assert await s.bound() == ""
    first = await s.add(TAG_A)
    assert await s.bound() == "tenant A"
    await s.end(first)
    assert await s.bound() == ""
    await s.add(TAG_B, pool=POOL)
    assert await s.bound() == "pool B"
    assert await s.bound(f"tenants/{TENANT}/pools/other") == ""
    await s.add(b"c" * 16)
    await s.add(TAG_A, b"c" * 16)
    assert await s.bound(f"tenants/{TENANT}/pools/other") == ""


@pytest.mark.parametrize("pool", ["", POOL])
async def test_a_pair_holds_where_its_caller_may_call(s: Subject, pool: str) -> None:
    scope = "pool" if pool else "tenant"
    await s.add(TAG_A, TAG_B, pool)
    assert await s.bound(direction=Direction.A_TO_B) == f"{scope} A_TO_B"
    assert await s.bound(direction=Direction.B_TO_A) == ""
    await s.add(TAG_B, TAG_A, pool)
    assert await s.bound(direction=Direction.B_TO_A) == f"{scope} B_TO_A"
    assert await s.bound() == f"{scope} A_TO_B"


async def test_an_entry_whose_time_is_over_holds_nobody_and_gives_way(s: Subject) -> None:
    over = await s.add(TAG_A, life_ms=-1)
    assert await s.bound() == ""
    newer = await s.add(TAG_A)
    assert await s.bound() == "tenant A"
    await s.end(over)  # late: it takes only its own mark away
    assert await s.bound() == "tenant A"
    assert await s.blacklist.get(TENANT, newer.id) is not None


async def test_a_new_entry_rests_on_what_stands_and_a_version_on_the_one_before(s: Subject) -> None:
    first = await s.add(TAG_A)
    mark = await s.blacklist.mark(TENANT, first.target)
    assert mark is not None
    assert str(mark) == first.mark
    twin = entry(s.clock.epoch_ms(), IDS.new(), first.target)
    with pytest.raises(Lost):
        await s.blacklist.put(twin, twin.requests[0], None)
    with pytest.raises(Taken) as taken:
        await s.blacklist.put(replace(twin, requests=first.requests), first.requests[0], mark)
    assert taken.value.answer == (b"h" * 16, first.id)
    assert await s.blacklist.answered(TENANT, first.requests[0].request_id) == (b"h" * 16, first.id)
    await s.end(first)
    with pytest.raises(Lost):
        await s.blacklist.put(first.ended(s.clock.epoch_ms()), None)
    assert await s.blacklist.mark(TENANT, first.target) is None


async def test_entries_are_read_and_listed(s: Subject) -> None:
    one, two = await s.add(TAG_A), await s.add(TAG_A, TAG_B)
    other = await s.add(TAG_B)
    assert await s.blacklist.page(TENANT, b"", "", 2) == [one.id, two.id]
    assert await s.blacklist.page(TENANT, b"", two.id, 2) == [other.id]
    assert await s.blacklist.page(TENANT, TAG_A, "", 9) == [one.id, two.id]
    assert await s.blacklist.page("other", b"", "", 9) == []
    stored = await s.blacklist.get(TENANT, two.id)
    assert isinstance(stored, StoredEntry)
    assert stored.entry == two
    assert await s.blacklist.get("other", two.id) is None
    await s.end(two)
    stored = await s.blacklist.get(TENANT, two.id)
    assert stored is not None
    assert stored.entry.state is EntryState.REMOVED


async def test_a_b_that_an_upgrade_brings_is_judged_as_one_that_a_create_does(s: Subject) -> None:
    now = s.clock.epoch_ms()
    clock = ManualClock()
    clock.advance(timedelta(milliseconds=now - clock.epoch_ms()))
    made = binding(clock, IDS.new(), tag_b=b"", terms=terms(clock, mode=Mode.AX))
    made = replace(made, requests=(replace(made.requests[0], request_id=IDS.new()),))
    lease = Lease(made.number, made.lease_epoch, now + 30_000, True, 60_000)
    await s.bindings.published(await s.bindings.create(made, A, None, b"o" * 16, lease), 5)
    listed = await s.add(TAG_B)
    old = await s.bindings.get(made.id)
    assert old is not None
    request = Answered(IDS.new(), b"u" * 16, s.clock.epoch_ms(), 0)
    pair = modes.upgraded(old.binding, 1, TAG_B, request)
    with pytest.raises(FailedPrecondition, match="PARTY_BLACKLISTED") as refused:
        await s.bindings.change(old, pair, B)
    assert refused.value.metadata == {"scope": "tenant", "target": "B"}
    await s.end(listed)
    await s.bindings.published(await s.bindings.change(old, pair, B), 5)
