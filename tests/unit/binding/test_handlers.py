"""The use cases on stores in memory, with faults before and after the write."""

import asyncio
import uuid
from dataclasses import replace
from datetime import timedelta

import pytest

from services.binding.changes import Changes
from services.binding.commands import Create, Find
from services.binding.domain import Binding, Mode
from services.binding.handlers import Handlers
from services.binding.vault import KeyedTags
from services.runtime.clock import ManualClock
from services.runtime.errors import AxbridgeError, Unavailable
from services.runtime.ids import SequentialIds
from services.runtime.keyring import MemoryKeyRing
from services.runtime.options import Options
from services.runtime.phone import PhoneNumber
from services.runtime.selection import Selection
from tests.unit.binding.memory import DAY_MS, TENANT, MemoryBindings, MemoryNumbers, terms

A, B, C, D = (PhoneNumber(f"+8613{n}12345678") for n in (5, 6, 7, 8))
FAR = 1e9


class Subject:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.bindings = MemoryBindings(self.clock)
        self.numbers = MemoryNumbers(self.clock)
        tags = KeyedTags(MemoryKeyRing())
        ids = SequentialIds()
        self.handlers = Handlers(self.bindings, self.numbers, tags, ids, self.clock)
        self.changes = Changes(self.bindings, tags, self.clock)

    def wish(self, **changes: object) -> Create:
        made = Create(TENANT, str(uuid.uuid4()), A, B, terms(self.clock))
        return replace(made, **changes)  # type: ignore[arg-type]


@pytest.fixture
def s() -> Subject:
    return Subject()


async def test_a_create_waits_for_kafka_and_is_repeatable(s: Subject) -> None:
    wish = s.wish()
    made = await s.handlers.create(wish, FAR)
    assert s.bindings.waited == [1]
    s.clock.advance(timedelta(hours=2))  # its expiry has passed: the answer is the same
    assert await s.handlers.create(wish, FAR) == made
    assert s.numbers.leased == 1
    with pytest.raises(AxbridgeError, match="REQUEST_ID_REUSED"):
        await s.handlers.create(replace(wish, a=C), FAR)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_lost_answer_is_repaired_by_a_retry(s: Subject, when: str) -> None:
    wish = s.wish()
    s.bindings.fail = (when, Unavailable("STORE_UNAVAILABLE"))  # type: ignore[assignment]
    with pytest.raises(Unavailable):
        await s.handlers.create(wish, FAR)
    assert s.numbers.returned == []  # it may be bound: the lease runs out by itself if not
    made = await s.handlers.create(wish, FAR)
    assert list(s.bindings.rows) == [made.id]


async def test_a_lease_is_returned_where_nothing_was_written(s: Subject) -> None:
    s.bindings.fail = ("before", Unavailable("OUTBOX_FULL"))
    with pytest.raises(Unavailable):
        await s.handlers.create(s.wish(), FAR)
    assert len(s.numbers.returned) == 1


async def test_refused_numbers_are_excluded_and_returned(s: Subject) -> None:
    s.numbers.exclusive = False
    first = await s.handlers.create(s.wish(), FAR)
    s.numbers.next = [first.number]
    second = await s.handlers.create(s.wish(b=C), FAR)
    assert second.number != first.number
    assert s.numbers.excluded[-1] == (first.number,)
    assert s.numbers.returned == [first.number]
    s.numbers.next = [first.number] * 16
    with pytest.raises(AxbridgeError, match="CONFLICT"):
        await s.handlers.create(s.wish(b=D), FAR)


async def test_a_number_by_name_is_bound_or_refused_at_once(s: Subject) -> None:
    s.numbers.exclusive = False
    named = Selection(number="700100000009999")
    first = await s.handlers.create(s.wish(selection=named), FAR)
    assert first.number == named.number
    with pytest.raises(AxbridgeError, match="NUMBER_UNAVAILABLE") as refused:
        await s.handlers.create(s.wish(b=C, selection=named), FAR)
    assert refused.value.metadata == {"number": named.number, "why": "PARTY_ON_NUMBER"}
    assert s.numbers.returned == [named.number]
    assert s.numbers.leased == 2


async def test_twins_give_one_binding(s: Subject) -> None:
    wish = s.wish()
    made = await asyncio.gather(*(s.handlers.create(wish, FAR) for _ in range(5)))
    assert len({each.id for each in made}) == 1


async def test_a_released_pair_cools(s: Subject) -> None:
    made = await s.handlers.create(s.wish(), FAR)
    await s.changes.release(TENANT, made.id, 0, FAR)
    s.numbers.next = [made.number]
    other = await s.handlers.create(s.wish(), FAR)
    assert other.number != made.number
    s.clock.advance(timedelta(milliseconds=DAY_MS))
    s.numbers.next = [made.number]
    assert (await s.handlers.create(s.wish(terms=terms(s.clock)), FAR)).number == made.number


async def test_a_relative_expiry_counts_from_the_creation_and_is_repeatable(s: Subject) -> None:
    wish = s.wish(terms=terms(s.clock, expire_ms=0), life_ms=120_000)
    made = await s.handlers.create(wish, FAR)
    assert made.terms.expire_ms == s.clock.epoch_ms() + 120_000
    s.clock.advance(timedelta(seconds=30))
    assert await s.handlers.create(wish, FAR) == made
    with pytest.raises(AxbridgeError, match="REQUEST_ID_REUSED"):
        await s.handlers.create(replace(wish, life_ms=121_000), FAR)
    other = replace(wish.terms, options=Options(ring_seconds=9))
    with pytest.raises(AxbridgeError, match="REQUEST_ID_REUSED"):
        await s.handlers.create(replace(wish, terms=other), FAR)
    with pytest.raises(AxbridgeError, match="EXPIRY_TOO_SOON"):
        await s.handlers.create(s.wish(life_ms=59_999), FAR)


async def test_an_option_that_the_number_cannot_bear_gives_it_back(s: Subject) -> None:
    s.numbers.exclusive = False
    wish = s.wish(terms=terms(s.clock, options=Options(stranger="closed")))
    with pytest.raises(AxbridgeError, match="OPTION_NEEDS_EXCLUSIVE"):
        await s.handlers.create(wish, FAR)
    assert len(s.numbers.returned) == 1


async def test_axyb_takes_two_numbers_or_none(s: Subject) -> None:
    s.numbers.exclusive = False
    wish = s.wish(terms=terms(s.clock, mode=Mode.AXYB))
    made = await s.handlers.create(wish, FAR)
    assert made.numbers == ("700100000000001", "700100000000002")
    assert (made.lease_epoch, made.second_epoch) == (1, 2)
    assert s.numbers.excluded == [(), (made.number,)]
    assert await s.handlers.create(wish, FAR) == made
    s.numbers.next = ["700100000000008", made.second]  # the second cannot take them: both go back
    other = await s.handlers.create(s.wish(terms=wish.terms), FAR)
    assert s.numbers.returned[-2:] == ["700100000000008", made.second]
    assert s.numbers.excluded[-2][-1] == made.second
    assert not set(other.numbers) & set(made.numbers)
    s.numbers.exhausted_after = s.numbers.leased + 1
    with pytest.raises(AxbridgeError, match="POOL_EXHAUSTED"):
        await s.handlers.create(s.wish(terms=wish.terms), FAR)
    assert len(s.numbers.returned) == 5
    assert len(s.bindings.rows) == 2


async def test_pages_do_not_move_under_the_reader(s: Subject) -> None:
    made = [await s.handlers.create(s.wish(), FAR) for _ in range(5)]
    seen: list[Binding] = []
    token = ""
    for _ in range(3):
        page, token = await s.handlers.list(Find(TENANT, "order-1", "order", 2, token))
        seen += page
    assert (seen, token) == (made, "")
    by_party, _ = await s.handlers.list(Find(TENANT, B, "party", 9, ""))
    assert by_party == made
    _, token = await s.handlers.list(Find(TENANT, "order-1", "order", 2, ""))
    for find in (Find(TENANT, "x", "order", 2, token), Find("other", "order-1", "order", 2, token)):
        with pytest.raises(AxbridgeError, match="INVALID_PAGE_TOKEN"):
            await s.handlers.list(find)


async def test_another_tenant_finds_nothing(s: Subject) -> None:
    made = await s.handlers.create(s.wish(), FAR)
    with pytest.raises(AxbridgeError, match="BINDING_NOT_FOUND"):
        await s.handlers.get("other", made.id)
