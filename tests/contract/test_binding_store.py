"""One suite for ports.Bindings, on the store in memory and on a real Valkey."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest

from services.binding import modes
from services.binding.domain import Answered, Binding, Direction, Lease, Mode, Reason, Terms
from services.binding.ports import Index, LeaseRefused, Lost, Stored, Swept, Taken
from services.runtime.clock import ManualClock
from services.runtime.errors import FailedPrecondition
from services.runtime.ids import TimeOrderedIds
from services.runtime.options import Options
from services.runtime.phone import PhoneNumber
from tests.unit.binding.cells import ready_cell
from tests.unit.binding.memory import DAY_MS, POOL, TENANT, MemoryBindings

IDS = TimeOrderedIds()
A, B = PhoneNumber("+8613512345678"), PhoneNumber("+8613612345678")
X = "700100000010001"


@dataclass
class Subject:
    """A store, and how to let its time pass."""

    store: Swept
    now: Callable[[], int]
    wait: Callable[[int], Awaitable[None]]
    epoch: int = 0

    def new(self, a: int = 1, b: int = 2, **changes: object) -> Binding:
        self.epoch += 1
        now = self.now()
        terms = Terms(POOL, "order-1", "taxi", now + 60_000, Direction.BOTH, 5, b"data")
        request = Answered(str(uuid.uuid4()), b"h" * 16, now, 1)
        made = Binding(
            TENANT, IDS.new(), X, terms, bytes([a]) * 16, bytes([b]) * 16, self.epoch, 300, True,
            now, now, (request,),
        )  # fmt: skip
        return replace(made, **changes)  # type: ignore[arg-type]

    async def create(self, binding: Binding, life_ms: int = 30_000, *, sticky: bool = False) -> int:
        lease = Lease(
            binding.number, binding.lease_epoch, self.now() + life_ms, binding.exclusive,
            binding.cooling_ms, binding.pair_cooling_ms, sticky,
        )  # fmt: skip
        return await self.store.create(binding, A, B, b"o" * 16, lease)

    async def read(self, binding: Binding) -> Stored:
        stored = await self.store.get(binding.id)
        assert stored is not None
        return stored

    async def release(self, binding: Binding, reason: Reason = Reason.REQUESTED) -> Binding:
        old = await self.read(binding)
        new = old.binding.released(self.now(), reason)
        await self.store.release(old, new)
        return new

    async def refused(
        self, binding: Binding, life_ms: int = 30_000, *, sticky: bool = False
    ) -> str:
        try:
            await self.create(binding, life_ms, sticky=sticky)
        except LeaseRefused as refusal:
            return refusal.reason
        return ""


@pytest.fixture(params=["memory", "valkey_url", "cluster_url"])
async def s(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    if request.param == "memory":
        clock = ManualClock(datetime.now(UTC))

        async def advance(ms: int) -> None:
            clock.advance(timedelta(milliseconds=ms))

        yield Subject(MemoryBindings(clock), clock.epoch_ms, advance)
        return

    async def sleep(ms: int) -> None:
        await asyncio.sleep(ms / 1000)

    async with ready_cell(request.getfixturevalue(request.param)) as ready:
        yield Subject(ready.bindings, lambda: int(datetime.now(UTC).timestamp() * 1000), sleep)


async def test_what_was_created_is_read_found_and_answered(s: Subject) -> None:
    made = s.new()
    await s.store.published(await s.create(made), 5)
    assert (await s.read(made)).binding == made
    answer = await s.store.answered(TENANT, made.requests[0].request_id)
    assert answer == (b"h" * 16, made.id)
    assert await s.store.answered("other", made.requests[0].request_id) is None
    for index in (
        Index("number", X), Index("order", (b"o" * 16).hex()), Index("party", made.tag_a.hex()),
        Index("party", made.tag_b.hex()),
    ):  # fmt: skip
        assert await s.store.page(TENANT, index, "", 10) == [made.id]
        assert await s.store.page(TENANT, index, made.id, 10) == []
        assert await s.store.page("other", index, "", 10) == []
    assert await s.store.get(IDS.new()) is None


async def test_a_request_id_is_claimed_once(s: Subject) -> None:
    made = s.new()
    await s.create(made)
    twin = s.new(3, 4, number="700100000010002", requests=made.requests)
    with pytest.raises(Taken) as taken:
        await s.create(twin)
    assert taken.value.answer.binding == made.id
    assert await s.store.get(twin.id) is None


async def test_an_exclusive_number_takes_one_binding_then_cools(s: Subject) -> None:
    made = s.new()
    await s.create(made)
    assert await s.refused(s.new(3, 4, lease_epoch=made.lease_epoch)) == "LEASE_STALE"
    assert await s.refused(s.new(3, 4)) == "NUMBER_OCCUPIED"
    assert await s.refused(s.new(3, 4), life_ms=-1) == "LEASE_STALE"
    await s.release(made)
    assert await s.refused(s.new(3, 4)) == "NUMBER_COOLING"
    await s.wait(400)
    assert await s.refused(s.new(3, 4)) == ""


async def test_a_shared_number_takes_a_party_once_in_any_role(s: Subject) -> None:
    first = s.new(1, 2, exclusive=False)
    await s.create(first)
    assert await s.refused(s.new(3, 4, exclusive=False)) == ""
    for a, b in ((1, 5), (5, 1), (2, 6), (6, 4)):
        assert await s.refused(s.new(a, b, exclusive=False)) == "PARTY_ON_NUMBER"
    await s.release(first)
    assert await s.refused(s.new(1, 5, exclusive=False)) == "PARTY_ON_NUMBER"
    assert await s.refused(s.new(5, 6, exclusive=False)) == ""
    await s.wait(400)
    assert await s.refused(s.new(1, 2, exclusive=False)) == ""


async def test_a_shared_number_takes_two_hundred_pairs(s: Subject) -> None:
    made = [
        s.new(0, 0, exclusive=False, tag_a=i.to_bytes(16), tag_b=(i + 1000).to_bytes(16))
        for i in range(201)
    ]
    outcomes = await asyncio.gather(*(s.refused(each) for each in made))
    assert sorted(outcomes) == [""] * 200 + ["NUMBER_FULL"]


def ax(s: Subject, number: int, **changes: object) -> Binding:
    made = s.new(1, 0, number=f"70010000001{number:04d}", tag_b=b"", **changes)
    return replace(made, terms=replace(made.terms, mode=Mode.AX))


async def test_a_party_holds_five_numbers_of_ax(s: Subject) -> None:
    made = [ax(s, number) for number in range(8)]
    outcomes = await asyncio.gather(*(s.refused(each) for each in made), return_exceptions=True)
    full = [each for each in outcomes if isinstance(each, FailedPrecondition)]
    assert [each.reason for each in full] == ["PARTY_FULL"] * 3
    assert outcomes.count("") == 5
    held = [each for each, outcome in zip(made, outcomes, strict=True) if outcome == ""]
    await s.release(held[0])
    assert await s.refused(ax(s, 20)) == ""
    other = replace(ax(s, 21), tag_a=bytes([9]) * 16)
    assert await s.refused(other) == ""
    old = await s.read(held[1])
    request = Answered(str(uuid.uuid4()), b"u" * 16, s.now(), 0)
    await s.store.change(old, modes.upgraded(old.binding, 1, b"z" * 16, request), B)
    assert await s.refused(ax(s, 22)) == ""  # a pair does not count
    with pytest.raises(FailedPrecondition):
        await s.create(ax(s, 23))


async def test_an_upgraded_binding_is_found_by_its_new_party_and_a_callee_is_not(
    s: Subject,
) -> None:
    made = ax(s, 1, cooling_ms=100)
    await s.create(made)
    old = await s.read(made)
    named = modes.named(old.binding, b"y" * 16, Answered("r1" * 18, b"u" * 16, s.now(), 0))
    await s.store.change(old, named, B)
    assert (await s.read(made)).binding == named
    assert await s.store.page(TENANT, Index("party", (b"y" * 16).hex()), "", 9) == []
    old = await s.read(made)
    pair = modes.upgraded(named, 2, b"z" * 16, Answered("r2" * 18, b"u" * 16, s.now(), 0))
    await s.store.change(old, pair, A)
    assert await s.store.page(TENANT, Index("party", (b"z" * 16).hex()), "", 9) == [made.id]
    await s.release(made)
    await s.wait(150)  # nobody is left on it: neither the callee nor the parties
    for tag in (b"y" * 16, b"z" * 16, made.tag_a):
        again = s.new(0, number=made.number, tag_b=tag, cooling_ms=0)
        assert await s.refused(again) == ""
        await s.release(again)


def axe(s: Subject, a: int, extension: str, **changes: object) -> Binding:
    made = s.new(a, 0, tag_b=b"", exclusive=False, **changes)
    options = Options(extension=extension, sms=False)
    return replace(made, terms=replace(made.terms, mode=Mode.AXE, options=options))


async def test_an_extension_stands_once_on_a_number_and_rests(s: Subject) -> None:
    first = axe(s, 1, "7")
    await s.create(first)
    assert await s.refused(axe(s, 2, "7")) == "EXTENSION_TAKEN"
    assert await s.refused(axe(s, 1, "8")) == "PARTY_ON_NUMBER"
    assert await s.refused(s.new(1, 3, exclusive=False)) == "PARTY_ON_NUMBER"
    assert await s.refused(axe(s, 2, "07")) == ""
    assert await s.store.extension(first, 1, 7) == "8"
    assert await s.store.extension(first, 2, 7) == "08"
    await s.release(first)
    assert await s.refused(axe(s, 5, "7")) == "EXTENSION_TAKEN"
    await s.wait(400)
    assert await s.store.extension(first, 1, 7) == "7"
    assert await s.refused(axe(s, 5, "7")) == ""


async def test_extensions_of_a_number_come_to_an_end(s: Subject) -> None:
    for digit in range(10):
        assert await s.refused(axe(s, digit, str(digit))) == ""
    more = axe(s, 0, "")
    assert await s.store.extension(more, 1, 3) is None
    assert await s.store.extension(replace(more, number=X[:-1] + "2"), 1, 3) == "3"


def axyb(s: Subject, a: int, b: int, y: str, **changes: object) -> Binding:
    made = s.new(a, b, second_epoch=s.epoch + 1, **changes)
    options = Options(numbers=f"{made.number}-{y}")
    return replace(made, terms=replace(made.terms, mode=Mode.AXYB, options=options))


Y, Z = X[:-1] + "8", X[:-1] + "9"


async def test_two_numbers_are_taken_together_or_not_at_all(s: Subject) -> None:
    first = axyb(s, 1, 2, Y)
    await s.store.published(await s.create(first), 5)
    assert (await s.read(first)).binding == first
    for number in (X, Y):
        assert await s.store.page(TENANT, Index("number", number), "", 9) == [first.id]
        assert await s.refused(s.new(5, 6, number=number)) == "NUMBER_OCCUPIED"
        assert await s.refused(s.new(5, 6, number=number, lease_epoch=1)) == "LEASE_STALE"
    with pytest.raises(LeaseRefused) as refusal:
        await s.create(axyb(s, 5, 6, Y, number=Z))
    assert (refusal.value.reason, refusal.value.number) == ("NUMBER_OCCUPIED", Y)
    assert await s.refused(s.new(5, 6, number=Z)) == ""  # the refused one left nothing on it
    await s.release(first)
    assert await s.refused(axyb(s, 5, 6, Y)) == "NUMBER_COOLING"
    await s.wait(400)
    assert await s.refused(axyb(s, 5, 6, X, number=Y)) == ""


async def test_no_real_number_repeats_on_two_shared_numbers(s: Subject) -> None:
    first = axyb(s, 1, 2, Y, exclusive=False)
    await s.create(first)
    assert await s.refused(axyb(s, 3, 4, Y, exclusive=False)) == ""
    for a, b, x, y in ((1, 7, X, Z), (7, 1, Z, X), (7, 2, Y, Z), (2, 7, Z, Y)):
        again = axyb(s, a, b, y, number=x, exclusive=False)
        assert await s.refused(again) == "PARTY_ON_NUMBER"
    assert await s.refused(s.new(1, 7, number=Y, exclusive=False)) == "PARTY_ON_NUMBER"
    assert await s.refused(s.new(1, 7, number=Z, exclusive=False)) == ""
    await s.release(first)
    assert await s.refused(s.new(1, 8, number=Y, exclusive=False)) == "PARTY_ON_NUMBER"
    await s.wait(400)
    assert await s.refused(s.new(1, 8, number=Y, exclusive=False)) == ""
    assert await s.refused(s.new(2, 9, number=X, exclusive=False)) == ""


async def test_a_change_is_compare_and_set(s: Subject) -> None:
    made = s.new()
    await s.create(made)
    old = await s.read(made)
    request = Answered(str(uuid.uuid4()), b"u" * 16, s.now(), 0)
    new = old.binding.updated(1, s.now() + 3 * DAY_MS, request)
    await s.store.change(old, new)
    assert (await s.read(made)).binding == new
    with pytest.raises(Taken):
        await s.store.change(old, new)
    again = replace(request, request_id=str(uuid.uuid4()))
    with pytest.raises(Lost):
        await s.store.change(old, old.binding.updated(1, s.now() + DAY_MS, again))


async def test_a_change_that_no_request_made_claims_none(s: Subject) -> None:
    made = s.new()
    made = replace(made, terms=replace(made.terms, options=Options(sliding_seconds=3600)))
    await s.create(made)
    old = await s.read(made)
    new = old.binding.renewed(s.now(), s.now())
    await s.store.change(old, new)
    assert (await s.read(made)).binding == new
    with pytest.raises(Lost):  # the same again: it is not at the old version any more
        await s.store.change(old, new)


async def test_a_release_happens_once(s: Subject) -> None:
    made = s.new()
    await s.create(made)
    old = await s.read(made)
    ended = old.binding.released(s.now(), Reason.REQUESTED)
    await s.store.release(old, ended)
    with pytest.raises(Lost):
        await s.store.release(old, ended)
    assert (await s.read(made)).binding == ended
