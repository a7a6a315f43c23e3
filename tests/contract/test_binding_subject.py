"""What an event tells of a person: each kind of event, to whom it names, and to nobody else."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from services.binding.blacklist import Target
from services.binding.domain import Answered
from services.binding.subject import SubjectEvent
from services.runtime.clock import SystemClock
from tests.contract.test_binding_erasure import PARTY, erasures, of_party, request
from tests.contract.test_binding_export import handed_out
from tests.contract.test_binding_rebuild import create
from tests.unit.binding.cells import ReadyCell, ready_cell
from tests.unit.binding.memory_blacklist import entry
from tests.unit.binding.memory_consents import consent

pytestmark = pytest.mark.both_stores
OTHER = b"o" * 16


@pytest.fixture
async def cell(valkey_url: str) -> AsyncIterator[ReadyCell]:
    async with ready_cell(valkey_url) as ready:
        yield ready


def kinds(events: list[SubjectEvent]) -> list[tuple[str, str]]:
    return sorted((event.type.rpartition(".")[2], event.side) for event in events)


async def known(cell: ReadyCell) -> None:
    """The person consented, asked to withdraw, is on two blacklists; others are too."""
    now, tag = SystemClock().epoch_ms(), cell.tags.party("didi", PARTY.e164)
    given = replace(consent(now, "c1", tag), tenant="didi")
    await cell.consents.put(given, given.requests[0], None)
    asked = given.asked(Answered("w", b"h" * 16, now, 0), "1", "zh")
    await cell.consents.put(asked, asked.requests[-1], given.mark)
    other = replace(consent(now, "c2", OTHER), tenant="didi")
    await cell.consents.put(other, other.requests[0], None)
    for place, target in enumerate(
        (Target(tag, b"", ""), Target(OTHER, tag, ""), Target(OTHER, b"x" * 16, ""))
    ):
        made = replace(entry(now, f"e{place}", target), tenant="didi")
        sequence = await cell.blacklist.put(made, made.requests[0])
        await cell.blacklist.published(sequence, 5)


async def test_consents_and_blacklists_are_told_of_and_nobody_else(cell: ReadyCell) -> None:
    await of_party(cell, 1)
    await create(cell, 2)
    await known(cell)
    events = await handed_out(cell, request())
    assert kinds(events) == [
        ("BindingCreated", "A"),
        ("BlacklistEntryAdded", "CALLEE"),
        ("BlacklistEntryAdded", "CALLER"),
        ("ConsentGranted", ""),
        ("ConsentWithdrawalRequested", ""),
    ]
    of_consents = [event for event in events if event.HasField("consent")]
    assert {(e.consent.consent, e.evidence_ref) for e in of_consents} == {("c1", "proof/4711")}
    assert [e.withdrawal.notice_version for e in of_consents if e.HasField("withdrawal")] == ["1"]
    assert OTHER not in b"".join(event.SerializeToString() for event in events)


async def test_after_an_erasure_only_blacklists_are_told_of(cell: ReadyCell) -> None:
    await of_party(cell, 1)
    await known(cell)
    await erasures(cell).erase("didi", PARTY, request())
    events = await handed_out(cell, request())
    assert kinds(events) == [
        ("BlacklistEntryAdded", "CALLEE"),
        ("BlacklistEntryAdded", "CALLER"),
    ]


async def test_another_tenant_learns_nothing(cell: ReadyCell) -> None:
    now, tag = SystemClock().epoch_ms(), cell.tags.party("didi", PARTY.e164)
    given = replace(consent(now, "c1", tag), tenant="other")
    await cell.consents.published(await cell.consents.put(given, given.requests[0], None), 5)
    assert await handed_out(cell, request()) == []
