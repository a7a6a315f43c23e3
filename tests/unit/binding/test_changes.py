"""Changes of a binding on stores in memory: once per request, from the version that was read."""

import asyncio
import uuid
from dataclasses import replace
from datetime import timedelta

import pytest

from services.binding.commands import Name, Update, Upgrade
from services.binding.domain import Binding, Mode
from services.binding.ports import Stored
from services.runtime.errors import AxbridgeError
from services.runtime.options import Options
from tests.unit.binding.memory import DAY_MS, TENANT, terms
from tests.unit.binding.test_handlers import FAR, A, B, C, Subject


@pytest.fixture
def s() -> Subject:
    return Subject()


async def ax(s: Subject) -> Binding:
    return await s.handlers.create(s.wish(b=None, terms=terms(s.clock, mode=Mode.AX)), FAR)


def name(made: Binding, callee: object = B) -> Name:
    return Name(TENANT, made.id, str(uuid.uuid4()), callee)  # type: ignore[arg-type]


async def test_a_temporary_callee_is_named_replaced_and_taken_back(s: Subject) -> None:
    made = await ax(s)
    wish = name(made)
    named = await s.changes.name(wish, FAR)
    assert (named.version, named.tag_b) == (2, s.handlers._tags.party(TENANT, B.e164))
    assert named.terms.options.callee_until_ms == s.clock.epoch_ms() + 60_000
    assert await s.changes.name(wish, FAR) == named
    with pytest.raises(AxbridgeError, match="REQUEST_ID_REUSED"):
        await s.changes.name(replace(wish, callee=C), FAR)
    assert (await s.changes.name(name(made, C), FAR)).tag_b != named.tag_b
    gone = await s.changes.name(name(made, None), FAR)
    assert (gone.version, gone.tag_b, gone.terms.options) == (4, b"", Options())
    with pytest.raises(AxbridgeError, match="PARTIES_EQUAL"):
        await s.changes.name(name(made, A), FAR)


async def test_an_upgrade_makes_a_pair_of_it(s: Subject) -> None:
    made = await ax(s)
    wish = Upgrade(TENANT, made.id, str(uuid.uuid4()), 1, B)
    pair = await s.changes.upgrade(wish, FAR)
    assert (pair.terms.mode, pair.number, pair.version) == (Mode.AXB, made.number, 2)
    assert await s.changes.upgrade(wish, FAR) == pair
    with pytest.raises(AxbridgeError, match="VERSION_STALE version=2"):
        await s.changes.upgrade(replace(wish, request_id=str(uuid.uuid4())), FAR)
    with pytest.raises(AxbridgeError, match="MODE_DIFFERS mode=AXB"):
        await s.changes.name(name(made), FAR)


async def test_update_and_release_race_once(s: Subject) -> None:
    made = await s.handlers.create(s.wish(), FAR)
    expiry = s.clock.epoch_ms() + DAY_MS
    updates = [Update(TENANT, made.id, str(uuid.uuid4()), 1, expiry) for _ in range(3)]
    outcomes = await asyncio.gather(
        *(s.changes.update(each, FAR) for each in updates), return_exceptions=True
    )
    assert sorted(type(each).__name__ for each in outcomes) == ["Aborted", "Aborted", "Binding"]
    with pytest.raises(AxbridgeError, match="VERSION_STALE version=2"):
        await s.changes.release(TENANT, made.id, 1, FAR)
    ended = await s.changes.release(TENANT, made.id, 2, FAR)
    assert await s.changes.release(TENANT, made.id, 2, FAR) == ended


async def test_a_repeated_update_answers_the_same(s: Subject) -> None:
    made = await s.handlers.create(s.wish(), FAR)
    wish = Update(TENANT, made.id, str(uuid.uuid4()), 1, s.clock.epoch_ms() + DAY_MS)
    longer = await s.changes.update(wish, FAR)
    assert await s.changes.update(wish, FAR) == longer
    with pytest.raises(AxbridgeError, match="REQUEST_ID_REUSED"):
        await s.changes.update(replace(wish, expire_ms=wish.expire_ms + 1), FAR)


async def test_an_update_that_lands_while_its_retry_reads_answers_the_retry(
    s: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await s.handlers.create(s.wish(), FAR)
    wish = Update(TENANT, made.id, str(uuid.uuid4()), 1, s.clock.epoch_ms() + DAY_MS)
    get = s.bindings.get

    async def late(binding: str) -> Stored | None:
        monkeypatch.setattr(s.bindings, "get", get)
        await s.changes.update(wish, FAR)  # of the process that the caller gave up on
        return await get(binding)

    monkeypatch.setattr(s.bindings, "get", late)
    assert (await s.changes.update(wish, FAR)).version == 2


async def test_a_renewal_is_published_once_and_repeatable(s: Subject) -> None:
    sliding = terms(s.clock, options=Options(sliding_seconds=3600))
    made = await s.handlers.create(s.wish(terms=sliding), FAR)
    s.clock.advance(timedelta(minutes=10))
    call_ms = s.clock.epoch_ms()
    longer = await s.changes.renew(TENANT, made.id, call_ms, FAR)
    assert (longer.version, longer.terms.expire_ms) == (2, call_ms + 3_600_000)
    assert await s.changes.renew(TENANT, made.id, call_ms, FAR) == longer
    assert s.bindings.waited == [1, 2, 2]
    assert longer.requests == made.requests
