"""Legal holds on a real Valkey: what is held outlives its bucket, nothing else does; it ends."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from axbridge.binding.v1 import events_pb2, retention_pb2

from services.binding.domain import Binding
from services.binding.export import Take
from services.binding.holds import Holds
from services.binding.ledger import Ledger, Place
from services.binding.messages import unsealed
from services.runtime.aead import associated, open_sealed
from services.runtime.clock import Clock, ManualClock
from services.runtime.errors import AlreadyExists, FailedPrecondition, NotFound, Unavailable
from services.runtime.keyring import KeyDestroyed
from services.runtime.sealing import PurgeSealer, open_evidence
from tests.contract.test_binding_purger import LATER, Purging, month
from tests.contract.test_binding_rebuild import CLOCK, A, B, create, release
from tests.unit.binding.cells import RECORDS, ReadyCell, ready_cell

pytestmark = pytest.mark.both_stores

SET, RELEASED = retention_pb2.LEGAL_HOLD_STATE_SET, retention_pb2.LEGAL_HOLD_STATE_RELEASED
UNKNOWN = "0190a1b2-0000-7000-8000-000000000009"


@pytest.fixture
async def cell(valkey_url: str) -> AsyncIterator[ReadyCell]:
    async with ready_cell(valkey_url) as ready:
        yield ready


def holds(ready: ReadyCell, clock: Clock = CLOCK, *, away: bool = False) -> Holds:
    async def read(topic: str, take: Take, since_ms: int) -> None:
        if away:
            raise Unavailable("LOG_UNAVAILABLE")
        await take([record for record in ready.on(topic) if record.timestamp_ms >= since_ms])

    ledger = Ledger(ready.cell, RECORDS, clock)
    return Holds(ready.bindings, ledger, PurgeSealer(ready.keyring), ready.keyring, clock, read)


async def held(ready: ReadyCell, made: Binding) -> events_pb2.HeldContent:
    """What whoever has the case's key reads."""
    place = Place("held", "didi", f"case-1.{made.id}")
    record = (await Ledger(ready.cell, RECORDS, CLOCK).get(place)).state.held
    box = unsealed(record.content)
    assert box is not None
    key = ready.keyring.derive("case/didi/case-1", b"seal/v1")
    bound = associated("held", "didi", "case-1", made.id)
    return events_pb2.HeldContent.FromString(open_sealed(key, box, bound))


def numbers(ready: ReadyCell, content: events_pb2.HeldContent) -> bytes:
    """What an approved unmask reads of it."""
    evidence = unsealed(content.secrets.evidence)
    assert evidence is not None
    bound = associated("binding-evidence", content.fact.tenant, content.fact.binding)
    return open_evidence(ready.private, ready.keyring, evidence, bound, content.evidence_key)


async def test_what_is_held_outlives_its_bucket_and_its_neighbours_do_not(
    cell: ReadyCell,
) -> None:
    live, ended, other = await create(cell, 1), await create(cell, 2), await create(cell, 3)
    await release(cell, ended)
    hold = await holds(cell).keep("didi", "case-1", "decision 7", [live.id, ended.id, UNKNOWN])
    assert (hold.state, list(hold.missing)) == (SET, [f"tenants/didi/bindings/{UNKNOWN}"])
    await Purging(cell).purger.purge(since=month(LATER, -4))
    for made in (live, ended):
        content = await held(cell, made)
        assert content.secrets.order_id == made.terms.order_id
        assert numbers(cell, content) == f"{A.e164} {B.e164}".encode()
    content = await held(cell, live)
    content.fact.binding = other.id  # the neighbour's copy, with what was held of this one
    [theirs] = [
        r.value for r in cell.on("binding.bindings.v1") if other.id in r.key.decode() and r.value
    ]
    box = unsealed(events_pb2.BindingCreated.FromString(theirs).secrets)
    assert box is not None
    with pytest.raises(KeyDestroyed):
        PurgeSealer(cell.keyring).open(box, associated("binding-event", "didi", other.id, 1))


async def test_it_is_told_without_anything_personal(cell: ReadyCell) -> None:
    made = await create(cell, 1)
    hold = await holds(cell).keep("didi", "case-1", "decision 7", [made.id])
    assert await holds(cell).keep("didi", "case-1", "decision 7", [made.id]) == hold
    [record] = cell.on("binding.retention.v1")
    told = events_pb2.LegalHoldChanged.FromString(record.value or b"")
    assert (told.hold, told.aggregate_version) == (hold, 2)
    state = [r.value or b"" for r in cell.on("binding.state.v1")[-3:]]
    order = made.terms.order_id.encode()
    assert not any(
        made.tag_a in each or order in each for each in [*state[1:], record.value or b""]
    )


async def test_a_case_holds_what_it_was_set_for(cell: ReadyCell) -> None:
    made = await create(cell, 1)
    service = holds(cell)
    await service.keep("didi", "case-1", "decision 7", [made.id])
    for reference, bindings in (("decision 8", [made.id]), ("decision 7", [UNKNOWN])):
        with pytest.raises(AlreadyExists, match="CASE_EXISTS"):
            await service.keep("didi", "case-1", reference, bindings)
    with pytest.raises(NotFound, match="CASE_NOT_FOUND"):
        await service.release("didi", "case-2")


async def test_no_bucket_ends_while_a_hold_is_being_set(cell: ReadyCell) -> None:
    made = await create(cell, 1)
    with pytest.raises(Unavailable):
        await holds(cell, away=True).keep("didi", "case-1", "decision 7", [made.id])
    with pytest.raises(FailedPrecondition, match="CASE_SETTING"):
        await holds(cell).release("didi", "case-1")
    assert await Purging(cell).purger.purge(since=month(LATER, -4)) == []
    records = list(cell.records)
    await cell.wipe()
    await cell.begin(2, records)  # and the store was lost
    await holds(cell).round()  # the owner's
    assert len(await Purging(cell).purger.purge(since=month(LATER, -4))) == 4
    assert numbers(cell, await held(cell, made)) == f"{A.e164} {B.e164}".encode()


async def test_a_released_case_ends_with_the_retention(cell: ReadyCell) -> None:
    made = await create(cell, 1)
    hold = await holds(cell).keep("didi", "case-1", "decision 7", [made.id])
    released = await holds(cell).release("didi", "case-1")
    assert released.state == RELEASED
    assert await holds(cell).release("didi", "case-1") == released
    end = hold.retention_end_time.ToDatetime(UTC)
    await holds(cell, ManualClock(end - timedelta(hours=1))).round()
    await held(cell, made)
    await holds(cell, ManualClock(end)).round()
    with pytest.raises(KeyDestroyed):  # copies of what was held open no more
        cell.keyring.derive("case/didi/case-1", b"seal/v1")
    ledger = Ledger(cell.cell, RECORDS, CLOCK)
    assert [each async for each in ledger.places("case")] == []
    assert [each async for each in ledger.places("held")] == []
    last = cell.on("binding.retention.v1")[-1]
    ended = events_pb2.LegalHoldEnded.FromString(last.value or b"")
    assert (ended.case, ended.held_count) == ("case-1", 1)
    with pytest.raises(AlreadyExists, match="CASE_EXISTS"):  # its key never comes back
        await holds(cell).keep("didi", "case-1", "decision 7", [made.id])


async def test_a_case_that_is_set_does_not_end_by_itself(cell: ReadyCell) -> None:
    made = await create(cell, 1)
    await holds(cell).keep("didi", "case-1", "decision 7", [made.id])
    await holds(cell, ManualClock(datetime(2100, 1, 1, tzinfo=UTC))).round()
    await held(cell, made)
