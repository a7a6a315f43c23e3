"""The use cases of blacklists on stores in memory."""

import asyncio
import uuid
from dataclasses import replace
from datetime import timedelta

import pytest

from services.binding.blacklist import LONGEST_MS, EntryState
from services.binding.blacklists import Add, BlacklistHandlers, Seen
from services.binding.commands import Create
from services.binding.handlers import Handlers
from services.binding.vault import KeyedTags
from services.runtime.clock import ManualClock
from services.runtime.errors import AxbridgeError
from services.runtime.ids import SequentialIds
from services.runtime.keyring import MemoryKeyRing
from services.runtime.phone import PhoneNumber
from tests.unit.binding.memory import POOL, TENANT, MemoryBindings, MemoryNumbers, terms
from tests.unit.binding.memory_blacklist import MemoryBlacklist

A, B = PhoneNumber("+8613512345678"), PhoneNumber("+8613612345678")
HOUR_MS = 3_600_000
FAR = 1e9


class Subject:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.bindings = MemoryBindings(self.clock)
        self.store = MemoryBlacklist(self.bindings)
        self.numbers = MemoryNumbers(self.clock)
        tags, ids = KeyedTags(MemoryKeyRing()), SequentialIds()
        self.binding = Handlers(self.bindings, self.numbers, tags, ids, self.clock)
        self.handlers = BlacklistHandlers(self.store, tags, ids, self.clock)

    def wish(self, **changes: object) -> Add:
        made = Add(TENANT, str(uuid.uuid4()), A, None, "", self.clock.epoch_ms() + HOUR_MS)
        return replace(made, **changes)  # type: ignore[arg-type]

    async def add(self, **changes: object) -> Seen:
        return await self.handlers.add(self.wish(**changes), FAR)

    async def remove(self, seen: Seen) -> Seen:
        return await self.handlers.remove(TENANT, seen.entry.id, FAR)

    async def bind(self, a: PhoneNumber = A, b: PhoneNumber = B) -> str:
        wish = Create(TENANT, str(uuid.uuid4()), a, b, terms(self.clock))
        return (await self.binding.create(wish, FAR)).id


@pytest.fixture
def s() -> Subject:
    return Subject()


async def reason(work: object) -> str:
    try:
        await work  # type: ignore[misc]
    except AxbridgeError as error:
        return error.reason
    return ""


async def test_an_add_waits_for_kafka_and_is_repeatable(s: Subject) -> None:
    wish = s.wish()
    first = await s.handlers.add(wish, FAR)
    assert s.store.waited == [1]
    assert (first.state, first.entry.expire_ms) == (EntryState.ACTIVE, wish.expire_ms)
    s.clock.advance(timedelta(minutes=59, seconds=30))  # nearer to its end than a new one may be
    assert await s.handlers.add(wish, FAR) == first
    other = s.handlers.add(replace(wish, pool=POOL), FAR)
    assert await reason(other) == "REQUEST_ID_REUSED"
    assert len(s.store.rows) == 1


async def test_what_is_listed_is_not_bound_until_it_ends(s: Subject) -> None:
    kept = await s.bind()
    seen = await s.add(pool=POOL)
    assert await reason(s.bind()) == "PARTY_BLACKLISTED"
    assert s.numbers.returned  # the lease is not held for what was refused
    assert s.bindings.rows[kept].binding.live
    removed = await s.remove(seen)
    assert (removed.state, removed.entry.version) == (EntryState.REMOVED, 2)
    await s.bind()
    await s.add()
    s.clock.advance(timedelta(milliseconds=HOUR_MS))
    await s.bind()


async def test_a_directed_pair_holds_both_ways_of_a_binding_only_where_it_calls(s: Subject) -> None:
    await s.add(callee=B)
    assert await reason(s.bind()) == "PARTY_BLACKLISTED"
    assert await reason(s.bind(B, A)) == "PARTY_BLACKLISTED"
    await s.bind(A, PhoneNumber("+8613712345678"))


async def test_one_entry_of_a_target_and_scope_is_in_force(s: Subject) -> None:
    first = await s.add()
    assert await reason(s.add()) == "BLACKLIST_ENTRY_EXISTS"
    for other in ({"pool": POOL}, {"callee": B}, {"caller": B}):
        await s.add(**other)
    s.clock.advance(timedelta(milliseconds=HOUR_MS))
    second = await s.add()  # the first is over, though nobody has written it down
    assert second.entry.create_ms > first.entry.create_ms
    assert await reason(s.bind()) == "PARTY_BLACKLISTED"
    assert (await s.handlers.get(TENANT, first.entry.id)).state is EntryState.EXPIRED


async def test_concurrent_adds_of_one_target_leave_one(s: Subject) -> None:
    made = await asyncio.gather(*(reason(s.add()) for _ in range(4)))
    assert sorted(made) == ["", *["BLACKLIST_ENTRY_EXISTS"] * 3]


@pytest.mark.parametrize(
    ("ahead", "wanted"),
    [(-1, "EXPIRY_PAST"), (1000, "EXPIRY_TOO_SOON"), (LONGEST_MS + 1, "EXPIRY_TOO_FAR"),
     (LONGEST_MS, "")],
)  # fmt: skip
async def test_an_entry_ends_within_five_years(s: Subject, ahead: int, wanted: str) -> None:
    assert await reason(s.add(expire_ms=s.clock.epoch_ms() + ahead)) == wanted


async def test_a_removal_is_repeatable_and_leaves_an_expired_one_as_it_is(s: Subject) -> None:
    seen = await s.add()
    removed = await s.remove(seen)
    assert await s.remove(seen) == removed
    late = await s.add(caller=B)
    s.clock.advance(timedelta(milliseconds=HOUR_MS))
    assert (await s.remove(late)).state is EntryState.EXPIRED
    assert s.store.rows[late.entry.id].version == 1  # its end is written by the cell's owner
    unknown = s.handlers.remove(TENANT, str(uuid.uuid4()), FAR)
    assert await reason(unknown) == "BLACKLIST_ENTRY_NOT_FOUND"
    assert await reason(s.handlers.get("other", seen.entry.id)) == "BLACKLIST_ENTRY_NOT_FOUND"


async def test_lists_are_in_order_and_by_number(s: Subject) -> None:
    made = [await s.add(), await s.add(callee=B), await s.add(caller=B)]
    first, token = await s.handlers.list(TENANT, None, 2, "")
    rest, end = await s.handlers.list(TENANT, None, 2, token)
    assert ([*first, *rest], end) == (made, "")
    of_a, _ = await s.handlers.list(TENANT, A, 10, "")
    assert list(of_a) == made[:2]
    assert await reason(s.handlers.list(TENANT, A, 2, token)) == "INVALID_PAGE_TOKEN"
