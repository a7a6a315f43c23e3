"""The use cases of consent on stores in memory."""

import asyncio
import uuid
from dataclasses import replace
from datetime import timedelta

import pytest

from services.binding.commands import Create
from services.binding.consent import LONGEST_MS, ConsentState, Parties, Policy
from services.binding.consents import Asked, ConsentHandlers, Grant, Seen
from services.binding.handlers import Handlers
from services.binding.vault import KeyedTags
from services.runtime.clock import ManualClock
from services.runtime.errors import AxbridgeError
from services.runtime.ids import SequentialIds
from services.runtime.keyring import MemoryKeyRing
from services.runtime.phone import PhoneNumber
from tests.unit.binding.memory import TENANT, MemoryBindings, MemoryNumbers, terms
from tests.unit.binding.memory_consents import MemoryConsents

A, B = PhoneNumber("+8613512345678"), PhoneNumber("+8613612345678")
FAR = 1e9


class Subject:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.bindings = MemoryBindings(self.clock)
        self.consents = MemoryConsents(self.bindings)
        self.numbers = MemoryNumbers(self.clock)
        tags, ids = KeyedTags(MemoryKeyRing()), SequentialIds()
        self.binding = Handlers(self.bindings, self.numbers, tags, ids, self.clock)
        self.handlers = ConsentHandlers(self.consents, self.bindings, tags, ids, self.clock)

    def wish(self, **changes: object) -> Grant:
        made = Grant(TENANT, str(uuid.uuid4()), A, "terms-3", "app", "proof/4711", 0)
        return replace(made, **changes)  # type: ignore[arg-type]

    async def grant(self, **changes: object) -> Seen:
        return await self.handlers.grant(self.wish(**changes), FAR)

    async def ask(self, seen: Seen, request_id: str = "", locale: str = "zh") -> Asked:
        request_id = request_id or str(uuid.uuid4())
        return await self.handlers.withdraw(TENANT, seen.consent.id, request_id, locale, FAR)

    async def confirm(self, asked: Asked, request_id: str = "", token: str = "") -> Seen:
        request_id = request_id or str(uuid.uuid4())
        identity = asked.seen.consent.id
        token = token or asked.token
        return await self.handlers.confirm(TENANT, identity, request_id, token, FAR)

    async def bind(self) -> str:
        wish = Create(TENANT, str(uuid.uuid4()), A, B, terms(self.clock))
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


async def test_a_grant_waits_for_kafka_and_is_repeatable(s: Subject) -> None:
    wish = s.wish()
    first = await s.handlers.grant(wish, FAR)
    assert s.consents.waited == [1]
    assert first.state is ConsentState.ACTIVE
    assert first.consent.expire_ms == s.clock.epoch_ms() + LONGEST_MS
    s.clock.advance(timedelta(hours=1))
    assert await s.handlers.grant(wish, FAR) == first
    other = s.handlers.grant(replace(wish, terms_version="other"), FAR)
    assert await reason(other) == "REQUEST_ID_REUSED"
    assert len(s.consents.rows) == 1


@pytest.mark.parametrize(
    ("ahead", "wanted"),
    [(-1, "EXPIRY_PAST"), (1000, "EXPIRY_TOO_SOON"), (LONGEST_MS + 1, "EXPIRY_TOO_FAR"),
     (LONGEST_MS, "")],
)  # fmt: skip
async def test_a_consent_ends_within_five_years(s: Subject, ahead: int, wanted: str) -> None:
    assert await reason(s.grant(expire_ms=s.clock.epoch_ms() + ahead)) == wanted


async def test_concurrent_grants_of_one_person_leave_one_in_force(s: Subject) -> None:
    made = await asyncio.gather(*(s.grant() for _ in range(3)))
    assert sorted(seen.consent.generation for seen in made) == [1, 2, 3]
    page, token = await s.handlers.list(TENANT, A, 10, "")
    assert [seen.state.name for seen in page] == ["SUPERSEDED", "SUPERSEDED", "ACTIVE"]
    assert token == ""


async def test_a_withdrawal_takes_the_notice_and_a_second_call(s: Subject) -> None:
    seen = await s.grant()
    made = [await s.bind() for _ in range(3)]
    asked = await s.ask(seen, locale="en")
    assert (asked.total, list(asked.bindings), asked.next_token) == (3, made, "")
    assert (asked.notice.version, asked.notice.locale) == ("1", "en")
    assert asked.seen.state is ConsentState.WITHDRAWAL_REQUESTED
    made.append(await s.bind())  # nothing has ended yet
    assert await reason(s.confirm(asked, token="0" * 32)) == "CONFIRMATION_INVALID"
    gone = await s.confirm(asked)
    assert gone.state is ConsentState.DRAINING
    assert gone.consent.withdrawal is not None
    assert gone.consent.withdrawal.drain_ms == s.clock.epoch_ms() + 600_000
    assert await reason(s.bind()) == "CONSENT_MISSING"
    assert await s.confirm(asked) == gone
    assert await reason(s.ask(seen)) == "CONSENT_ENDED"
    assert all(row.binding.live for row in s.bindings.rows.values())


async def test_both_steps_are_repeatable_and_bound_to_their_bodies(s: Subject) -> None:
    seen, first, second = await s.grant(), str(uuid.uuid4()), str(uuid.uuid4())
    asked = await s.ask(seen, first)
    again = await s.ask(seen, first)
    assert (again.token, again.seen) == (asked.token, asked.seen)
    assert await reason(s.ask(seen, first, "en")) == "REQUEST_ID_REUSED"
    gone = await s.confirm(asked, second)
    assert await s.confirm(asked, second) == gone
    assert (await s.ask(seen, first)).token == asked.token
    assert s.consents.rows[seen.consent.id].version == 3


async def test_only_the_newest_token_confirms_and_for_a_day(s: Subject) -> None:
    seen = await s.grant()
    old, new = await s.ask(seen), await s.ask(seen)
    assert old.token != new.token
    assert await reason(s.confirm(old)) == "CONFIRMATION_INVALID"
    s.clock.advance(timedelta(days=1))
    assert await reason(s.confirm(new)) == "CONFIRMATION_INVALID"
    assert (await s.confirm(await s.ask(seen))).state is ConsentState.DRAINING


async def test_a_superseded_consent_is_not_withdrawn(s: Subject) -> None:
    seen = await s.grant()
    asked = await s.ask(seen)
    await s.grant()
    assert await reason(s.ask(seen)) == "CONSENT_ENDED"
    assert await reason(s.confirm(asked)) == "CONSENT_ENDED"


async def test_a_new_consent_waits_until_the_last_has_drained(s: Subject) -> None:
    seen = await s.grant()
    gone = await s.confirm(await s.ask(seen))
    assert await reason(s.grant()) == "CONFLICT"
    await s.consents.put(gone.consent.drained(s.clock.epoch_ms()), None, gone.consent.mark)
    again = await s.grant()
    assert again.consent.generation == 2
    assert s.bindings.rows[await s.bind()].binding.consent_a == again.consent.id
    shown = await s.handlers.get(TENANT, seen.consent.id)
    assert shown.state is ConsentState.WITHDRAWN


async def test_affected_bindings_are_paged(s: Subject) -> None:
    seen = await s.grant()
    made = [await s.bind() for _ in range(103)]
    asked = await s.ask(seen)
    assert (asked.total, list(asked.bindings)) == (103, made[:100])
    list_ = s.handlers.bindings
    rest, token = await list_(TENANT, seen.consent.id, 2, asked.next_token)
    assert list(rest) == made[100:102]
    rest, token = await list_(TENANT, seen.consent.id, 2, token)
    assert (list(rest), token) == (made[102:], "")
    other = await s.grant(person=B)
    assert await reason(list_(TENANT, other.consent.id, 2, asked.next_token)) == (
        "INVALID_PAGE_TOKEN"
    )


async def test_a_list_goes_on_where_it_ended_and_shows_a_tenant_its_own(s: Subject) -> None:
    made = [(await s.grant(person=person)).consent.id for person in (A, B, A)]
    first, token = await s.handlers.list(TENANT, None, 2, "")
    rest, end = await s.handlers.list(TENANT, None, 2, token)
    assert [each.consent.id for each in (*first, *rest)] == made
    assert end == ""
    assert await s.handlers.list("other", None, 2, "") == ([], "")
    assert await reason(s.handlers.list("other", None, 2, token)) == "INVALID_PAGE_TOKEN"
    assert await reason(s.handlers.get("other", made[0])) == "CONSENT_NOT_FOUND"


async def test_a_policy_is_set_by_version_and_repeatable(s: Subject) -> None:
    wish = Policy(TENANT, Parties.BOTH, 1000, {}, 0)
    assert await s.handlers.policy(TENANT) == Policy(TENANT)
    made = await s.handlers.set_policy(wish, FAR)
    assert made.version == 1
    assert await s.handlers.set_policy(wish, FAR) == made
    assert await reason(s.bind()) == "CONSENT_MISSING"
    assert s.numbers.leased == 0  # known before a number is asked for
    late = replace(wish, parties=Parties.NONE)
    assert await reason(s.handlers.set_policy(late, FAR)) == "VERSION_STALE"
    assert (await s.handlers.set_policy(replace(late, version=1), FAR)).version == 2
    assert await s.handlers.policy(TENANT) != made


async def test_the_grace_period_is_the_policys(s: Subject) -> None:
    await s.handlers.set_policy(Policy(TENANT, grace_ms=7000), FAR)
    gone = await s.confirm(await s.ask(await s.grant()))
    assert gone.consent.withdrawal is not None
    assert gone.consent.withdrawal.drain_ms == s.clock.epoch_ms() + 7000


async def test_an_expired_consent_is_shown_as_such(s: Subject) -> None:
    seen = await s.grant(expire_ms=s.clock.epoch_ms() + 60_000)
    s.clock.advance(timedelta(minutes=1))
    shown = await s.handlers.get(TENANT, seen.consent.id)
    assert shown.state is ConsentState.EXPIRED
    assert await reason(s.ask(seen)) == "CONSENT_ENDED"
