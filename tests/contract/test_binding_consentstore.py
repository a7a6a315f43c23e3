"""One suite for ports.Consents and for creates that are judged by it, in memory and on Valkey."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest

from services.binding import modes
from services.binding.consent import Consent, Parties, Policy
from services.binding.domain import Answered, Binding, Lease, Mode
from services.binding.ports import Consents, ConsentsChanged, Lost, Swept, Taken
from services.runtime.clock import Clock, ManualClock, SystemClock
from services.runtime.errors import FailedPrecondition
from services.runtime.ids import TimeOrderedIds
from services.runtime.phone import PhoneNumber
from tests.unit.binding.cells import ready_cell
from tests.unit.binding.memory import DAY_MS, POOL, TENANT, MemoryBindings, binding
from tests.unit.binding.memory_consents import MemoryConsents, consent

IDS = TimeOrderedIds()
A, B = PhoneNumber("+8613512345678"), PhoneNumber("+8613612345678")
TAG_A, TAG_B = b"a" * 16, b"b" * 16


@dataclass
class Subject:
    """A store of consents beside one of bindings."""

    consents: Consents
    bindings: Swept
    clock: Clock
    epoch: int = 0

    async def grant(self, tag: bytes = TAG_A, **changes: object) -> Consent:
        before = await self.consents.mark(TENANT, tag)
        made = consent(
            self.clock.epoch_ms(), IDS.new(), tag, before.generation + 1 if before else 1
        )
        made = replace(made, **changes)  # type: ignore[arg-type]
        await self.consents.published(await self.consents.put(made, made.requests[0], before), 5)
        return made

    async def withdraw(self, old: Consent) -> Consent:
        """Both steps at once; it drains."""
        now, first, second = self.clock.epoch_ms(), str(uuid.uuid4()), str(uuid.uuid4())
        asked = old.asked(Answered(first, b"w" * 16, now, 0), "1", "zh")
        await self.consents.put(asked, asked.requests[-1], old.mark)
        gone = asked.confirmed(Answered(second, b"c" * 16, now, 0), 5000)
        await self.consents.published(
            await self.consents.put(gone, gone.requests[-1], asked.mark), 5
        )
        return gone

    async def set_policy(self, parties: Parties, **pools: Parties) -> Policy:
        old, _ = await self.consents.policy(TENANT)
        rules = {f"tenants/{TENANT}/pools/{pool}": rule for pool, rule in pools.items()}
        made = Policy(TENANT, parties, 5000, rules, old.version + 1, self.clock.epoch_ms())
        await self.consents.set_policy(made)
        return made

    async def bind(self, pool: str = POOL, **changes: object) -> Binding:
        """A binding as the handlers make it, or as `changes` say, on a number of its own."""
        self.epoch += 1
        made = binding(
            ManualClock(self.clock.now()), IDS.new(), number=f"7001000000{self.epoch:05d}",
            lease_epoch=self.epoch, tag_a=TAG_A, tag_b=TAG_B,
        )  # fmt: skip
        a, b = await self.bindings.consented(TENANT, pool, (TAG_A, TAG_B))
        terms = replace(made.terms, pool=pool)
        made = replace(made, terms=terms, consent_a=a, consent_b=b)
        made = replace(made, **changes)  # type: ignore[arg-type]
        lease = Lease(made.number, made.lease_epoch, self.clock.epoch_ms() + 9000, True, 60_000)
        try:
            await self.bindings.create(made, A, B, b"o" * 16, lease)
        except ConsentsChanged:
            if changes:
                raise
            return await self.bind(pool)  # what was remembered of the tenant is out of date
        return made


@pytest.fixture(params=["memory", "valkey"])
async def s(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    if request.param == "memory":
        clock = ManualClock()
        bindings = MemoryBindings(clock)
        yield Subject(MemoryConsents(bindings), bindings, clock)
        return
    async with ready_cell(request.getfixturevalue("valkey_url")) as ready:
        yield Subject(ready.consents, ready.bindings, SystemClock())


async def test_what_was_granted_is_read_and_listed(s: Subject) -> None:
    first = await s.grant()
    other = await s.grant(TAG_B)
    stored = await s.consents.get(TENANT, first.id)
    assert stored is not None
    assert (stored.consent, stored.newest) == (first, True)
    assert await s.consents.get("other", first.id) is None
    assert await s.consents.get(TENANT, IDS.new()) is None
    assert await s.consents.page(TENANT, b"", "", 10) == [first.id, other.id]
    assert await s.consents.page(TENANT, b"", first.id, 10) == [other.id]
    assert await s.consents.page(TENANT, TAG_A, "", 10) == [first.id]
    assert await s.consents.page("other", b"", "", 10) == []
    answer = await s.consents.answered(TENANT, first.requests[0].request_id)
    assert answer == (b"h" * 16, first.id)
    assert await s.consents.mark(TENANT, TAG_A) == first.mark


async def test_a_newer_consent_stands_in_the_place_of_an_older(s: Subject) -> None:
    first = await s.grant()
    second = await s.grant(terms_version="terms-4")
    stored = await s.consents.get(TENANT, first.id)
    assert stored is not None
    assert not stored.newest
    assert await s.consents.mark(TENANT, TAG_A) == second.mark
    made = await s.bind()
    assert (made.consent_a, made.consent_b) == (second.id, "")
    with pytest.raises(Lost):  # of two that were granted at once one must look again
        await s.consents.put(consent(s.clock.epoch_ms(), IDS.new()), None, None)


async def test_a_request_is_answered_once(s: Subject) -> None:
    first = await s.grant()
    twin = replace(consent(s.clock.epoch_ms(), IDS.new(), TAG_B), requests=first.requests)
    with pytest.raises(Taken) as taken:
        await s.consents.put(twin, twin.requests[0], None)
    assert taken.value.answer.binding == first.id


async def refused(s: Subject, **changes: object) -> str:
    """The party whose consent is missing."""
    try:
        await s.bind(**changes)  # type: ignore[arg-type]
    except FailedPrecondition as refusal:
        return refusal.metadata["party"]  # which only CONSENT_MISSING has
    return ""


async def test_the_policy_says_whose_consent_is_needed(s: Subject) -> None:
    assert await refused(s) == ""
    await s.set_policy(Parties.BOTH, free=Parties.NONE, one=Parties.B)
    free, one = f"tenants/{TENANT}/pools/free", f"tenants/{TENANT}/pools/one"
    assert await refused(s) == "A"
    assert await refused(s, pool=free) == ""
    assert await refused(s, pool=one) == "B"
    a, b = await s.grant(TAG_A), await s.grant(TAG_B)
    made = await s.bind()
    assert (made.consent_a, made.consent_b) == (a.id, b.id)
    stored = await s.bindings.get(made.id)
    assert stored is not None
    assert stored.binding == made
    await s.set_policy(Parties.NONE)
    assert (await s.consents.policy(TENANT))[0].version == 2


async def test_a_policy_that_was_changed_meanwhile_is_not_overwritten(s: Subject) -> None:
    first = await s.set_policy(Parties.A)
    with pytest.raises(Lost):
        await s.consents.set_policy(first)
    assert (await s.consents.policy(TENANT))[0] == first
    assert (await s.consents.policy("other"))[0] == Policy("other")


async def test_an_expired_consent_is_none(s: Subject) -> None:
    await s.set_policy(Parties.A)
    await s.grant(expire_ms=s.clock.epoch_ms() - 1)
    assert await refused(s) == "A"
    await s.set_policy(Parties.NONE)
    assert (await s.bind()).consent_a == ""


async def test_what_a_create_names_is_checked_where_it_is_written(s: Subject) -> None:
    await s.bind()  # from here on the tenant is remembered as one without consents
    first = await s.grant()
    with pytest.raises(ConsentsChanged):
        await s.bind(consent_a="")
    await s.grant()
    with pytest.raises(ConsentsChanged):
        await s.bind(consent_a=first.id)
    with pytest.raises(ConsentsChanged):
        await s.bind(consent_b=first.id)


async def test_whoever_withdrew_is_not_bound_even_where_nobody_asks(s: Subject) -> None:
    old = await s.grant(TAG_B)
    kept = await s.bind()
    gone = await s.withdraw(old)
    assert await refused(s) == "B"
    stored = await s.bindings.get(kept.id)
    assert stored is not None
    assert stored.binding.live
    assert (await s.bindings.live(TENANT, TAG_B, "", 10)) == ([kept.id], "")
    done = gone.drained(s.clock.epoch_ms())
    await s.consents.put(done, None, gone.mark)
    assert await refused(s) == "B"
    again = await s.grant(TAG_B)
    assert (await s.bind()).consent_b == again.id


async def test_a_binding_drains_once_and_only_from_the_version_seen(s: Subject) -> None:
    made = await s.bind()
    old = await s.bindings.get(made.id)
    assert old is not None
    until = s.clock.epoch_ms() + 5000
    draining = made.draining(until, s.clock.epoch_ms())
    await s.bindings.release(old, draining)
    now = await s.bindings.get(made.id)
    assert now is not None
    assert (now.binding, now.binding.terms.expire_ms) == (draining, until)
    with pytest.raises(Lost):
        await s.bindings.release(old, draining)
    request = Answered("r", b"u" * 16, s.clock.epoch_ms(), 0)
    with pytest.raises(FailedPrecondition) as refusal:
        now.binding.updated(2, until + DAY_MS, request)
    assert refusal.value.reason == "BINDING_DRAINING"


async def test_no_create_slips_past_a_withdrawal(s: Subject) -> None:
    """Creates race the confirmation: those answered before it are found by the walk behind it, and
    none is answered after it."""
    await s.set_policy(Parties.A)
    old = await s.grant()
    begun = asyncio.Event()

    async def create() -> str:
        begun.set()
        try:
            return (await s.bind()).id
        except (FailedPrecondition, ConsentsChanged):
            return ""

    creates = [asyncio.create_task(create()) for _ in range(40)]
    await begun.wait()
    gone = await s.withdraw(old)
    late = [asyncio.create_task(create()) for _ in range(10)]
    found, behind = list[str](), ""
    while True:
        live, behind = await s.bindings.live(TENANT, TAG_A, behind, 7)
        found += live
        if not behind:
            break
    made = [each for each in await asyncio.gather(*creates) if each]
    assert set(await asyncio.gather(*late)) == {""}
    assert sorted(found) == sorted(made)
    assert gone.withdrawn


async def test_an_upgrade_rests_on_the_consent_of_the_b_that_it_brings(s: Subject) -> None:
    await s.set_policy(Parties.BOTH)
    of_a = await s.grant()
    assert await s.bindings.consented(TENANT, POOL, (TAG_A, b"")) == (of_a.id, "")
    made = binding(
        ManualClock(s.clock.now()), IDS.new(), tag_a=TAG_A, tag_b=b"", consent_a=of_a.id
    )  # fmt: skip
    made = replace(made, terms=replace(made.terms, mode=Mode.AX, pool=POOL))
    lease = Lease(made.number, made.lease_epoch, s.clock.epoch_ms() + 9000, True, 60_000)
    await s.bindings.published(await s.bindings.create(made, A, None, b"o" * 16, lease), 5)
    old = await s.bindings.get(made.id)
    assert old is not None
    request = Answered(IDS.new(), b"u" * 16, s.clock.epoch_ms(), 0)
    pair = modes.upgraded(old.binding, 1, TAG_B, request)
    with pytest.raises(FailedPrecondition, match="CONSENT_MISSING"):
        await s.bindings.change(old, pair, B)
    of_b = await s.grant(TAG_B)
    with pytest.raises(ConsentsChanged):  # a consent that is in force is named
        await s.bindings.change(old, pair, B)
    sequence = await s.bindings.change(old, replace(pair, consent_b=of_b.id), B)
    await s.bindings.published(sequence, 5)
