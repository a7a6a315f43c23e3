"""Erasing a person on a real Valkey: restricted at once, kept sealed, complete with the bucket."""

import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from axbridge.binding.v1 import binding_pb2, events_pb2, retention_pb2

from services.binding.consent import Consent
from services.binding.domain import Binding
from services.binding.erasure import Erasures
from services.binding.ledger import Ledger, Place, Request
from services.binding.messages import unsealed
from services.binding.ports import Lost
from services.runtime.clock import SystemClock
from services.runtime.errors import AlreadyExists, NotFound
from services.runtime.ids import TimeOrderedIds
from services.runtime.phone import PhoneNumber
from services.runtime.sealing import PurgeSealer, associated, month_begin, month_of
from tests.contract.test_binding_purger import Purging
from tests.contract.test_binding_rebuild import CLOCK, create, read, release
from tests.unit.binding.cells import RECORDS, ReadyCell, ready_cell
from tests.unit.binding.memory_consents import consent

pytestmark = pytest.mark.both_stores

PARTY = PhoneNumber("+8613512345678")
RESTRICTED = retention_pb2.ERASURE_STATE_RESTRICTED


@pytest.fixture
async def cell(valkey_url: str) -> AsyncIterator[ReadyCell]:
    async with ready_cell(valkey_url) as ready:
        yield ready


def erasures(ready: ReadyCell) -> Erasures:
    ledger, sealer = Ledger(ready.cell, RECORDS, CLOCK), PurgeSealer(ready.keyring)
    clock = SystemClock()
    return Erasures(
        ready.bindings, ready.consents, ledger, ready.tags, sealer, TimeOrderedIds(clock), clock
    )


async def of_party(ready: ReadyCell, epoch: int, tenant: str = "didi") -> Binding:
    tag = ready.tags.party("didi", PARTY.e164)
    return await create(ready, epoch, tag_a=tag, tenant=tenant)


def request() -> str:
    return str(uuid.uuid4())


async def test_everything_of_the_person_is_restricted_at_once(cell: ReadyCell) -> None:
    live, ended, other = await of_party(cell, 1), await of_party(cell, 2), await create(cell, 3)
    await release(cell, ended)
    erasure = await erasures(cell).erase("didi", PARTY, request())
    assert (erasure.state, erasure.binding_count) == (RESTRICTED, 2)
    for each in (live, ended):
        stored = (await read(cell, each)).binding
        assert (stored.live, stored.restricted) == (False, True)
    route = events_pb2.Route.FromString(cell.on("binding.routes.v1")[-1].value or b"")
    assert route.state == binding_pb2.BINDING_STATE_RELEASED
    assert (route.callee_a.box, route.callee_b.box) == (b"", b"")
    assert (await read(cell, other)).binding.live
    last = month_of(datetime.fromtimestamp(live.terms.expire_ms / 1000, UTC)) + 7
    assert erasure.erase_time.ToDatetime(UTC) == month_begin(last)


async def test_it_is_told_with_the_person_sealed(cell: ReadyCell) -> None:
    await of_party(cell, 1)
    erasure = await erasures(cell).erase("didi", PARTY, request())
    [record] = cell.on("binding.retention.v1")
    event = events_pb2.SubjectRestricted.FromString(record.value or b"")
    assert (event.erasure, event.binding_count) == (erasure.name.split("/")[-1], 1)
    tag = cell.tags.party("didi", PARTY.e164)
    assert tag not in (record.value or b"") + record.key
    box, place = unsealed(event.secrets), associated("erasure", "didi", event.erasure)
    assert box is not None
    plain = PurgeSealer(cell.keyring).open(box, place)
    assert events_pb2.SubjectSecrets.FromString(plain).tag == tag


async def test_a_repeated_request_gets_the_same_answer_and_another_body_none(
    cell: ReadyCell,
) -> None:
    asked, service = request(), erasures(cell)
    first = await service.erase("didi", PARTY, asked)
    assert await service.erase("didi", PARTY, asked) == first
    with pytest.raises(AlreadyExists, match="REQUEST_ID_REUSED"):
        await service.erase("didi", PhoneNumber("+8613612345678"), asked)
    assert len(cell.on("binding.retention.v1")) == 1


async def test_what_was_begun_is_brought_to_its_end_by_whoever_comes(cell: ReadyCell) -> None:
    made = await of_party(cell, 1)
    service, asked = erasures(cell), request()
    died = Died(cell)
    with pytest.raises(Lost):
        await died.service.erase("didi", PARTY, asked)
    assert (await read(cell, made)).binding.live
    records = list(cell.records)
    await cell.wipe()
    await cell.begin(2, records)  # and the store was lost, too
    await service.resume()
    assert (await read(cell, made)).binding.restricted
    again = await service.erase("didi", PARTY, asked)
    assert (again.state, again.binding_count) == (RESTRICTED, 1)


class Died:
    """Erasures of a process that dies behind its first write."""

    def __init__(self, ready: ReadyCell) -> None:
        self.service = erasures(ready)
        ledger = self.service._ledger

        class Once:
            async def put(self, place: Place, seen: int, state: events_pb2.StateRecord | None,
                          request: Request | None = None) -> int:  # fmt: skip
                sequence = await ledger.put(place, seen, state, request)
                await ready.bindings.published(sequence, 5)
                return sequence

            async def get(self, place: Place) -> None:
                raise Lost

        self.service._ledger = Once()  # type: ignore[assignment]


async def test_a_binding_on_a_new_consent_is_not_touched(cell: ReadyCell) -> None:
    service = erasures(cell)
    await of_party(cell, 1)
    await service.erase("didi", PARTY, request())
    later = CLOCK.epoch_ms() + 1
    tag = cell.tags.party("didi", PARTY.e164)
    new = await create(cell, 2, tag_a=tag, create_ms=later)
    await service.resume()
    assert (await read(cell, new)).binding.live


async def consented(cell: ReadyCell, identity: str, grant_ms: int) -> Consent:
    tag = cell.tags.party("didi", PARTY.e164)
    before = await cell.consents.mark("didi", tag)
    made = replace(
        consent(grant_ms, identity, tag, before.generation + 1 if before else 1), tenant="didi"
    )
    await cell.consents.put(made, made.requests[0], before)
    return made


async def test_consents_of_the_person_are_over_and_shown_to_nobody(cell: ReadyCell) -> None:
    now, tag = CLOCK.epoch_ms(), cell.tags.party("didi", PARTY.e164)
    first, second = await consented(cell, "c1", now - 9), await consented(cell, "c2", now - 5)
    other = replace(consent(now, "c3", b"o" * 16), tenant="didi")
    await cell.consents.put(other, other.requests[0], None)
    erasure = await erasures(cell).erase("didi", PARTY, request())
    assert (erasure.binding_count, erasure.consent_count) == (0, 2)
    for each in (first, second):
        assert await cell.consents.get("didi", each.id) is None
    assert await cell.consents.get("didi", other.id) is not None
    mark = await cell.consents.mark("didi", tag)
    assert mark is not None
    assert (mark.letter, mark.consent) == ("W", "c2")
    facts = [
        events_pb2.ConsentErased.FromString(record.value or b"").fact
        for record in cell.on("binding.consents.v1")
        if record.envelope.type.endswith(".ConsentErased")
    ]
    told = sorted((fact.consent, fact.aggregate_version) for fact in facts)
    assert told == [("c1", 2), ("c2", 2)]
    [record] = cell.on("binding.retention.v1")
    assert events_pb2.SubjectRestricted.FromString(record.value or b"").consent_count == 2
    # What was sealed when they were granted is in the bucket of their ends.
    last = month_of(datetime.fromtimestamp(second.expire_ms / 1000, UTC)) + 7
    assert erasure.erase_time.ToDatetime(UTC) == month_begin(last)
    records = list(cell.records)
    before = await cell.snapshot()
    await cell.wipe()
    await cell.begin(2, records)
    assert await cell.consents.get("didi", "c2") is None
    assert {k: v for k, v in (await cell.snapshot()).items() if "register" in k} == {
        k: v for k, v in before.items() if "register" in k
    }


async def test_a_later_consent_stays_and_a_binding_on_an_erased_one_ends(cell: ReadyCell) -> None:
    """The binding came between the request and the end of the consent that it rests on."""
    now, service, asked = CLOCK.epoch_ms(), erasures(cell), request()
    tag = cell.tags.party("didi", PARTY.e164)
    old = await consented(cell, "c1", now)
    with pytest.raises(Lost):
        await Died(cell).service.erase("didi", PARTY, asked)
    late = CLOCK.epoch_ms() + 60_000
    between = await create(cell, 1, tag_a=tag, create_ms=late, consent_a=old.id)
    new = await consented(cell, "c2", late)
    after = await create(cell, 2, tag_a=tag, create_ms=late, consent_a=new.id)
    erasure = await service.erase("didi", PARTY, asked)
    assert (erasure.binding_count, erasure.consent_count) == (1, 1)
    assert (await read(cell, between)).binding.restricted
    assert (await read(cell, after)).binding.live
    assert await cell.consents.get("didi", new.id) is not None


async def test_an_erasure_ends_with_its_last_bucket(cell: ReadyCell) -> None:
    service, asked = erasures(cell), request()
    erasure = await service.erase("didi", PARTY, asked)
    end = erasure.erase_time.ToDatetime(UTC)
    [before] = await Purging(cell, end - timedelta(days=1)).purger.purge()
    assert before.dropped_erasures == 0
    [with_it] = await Purging(cell, end).purger.purge()
    assert with_it.dropped_erasures == 1
    with pytest.raises(NotFound, match="ERASURE_NOT_FOUND"):
        await service.erase("didi", PARTY, asked)
