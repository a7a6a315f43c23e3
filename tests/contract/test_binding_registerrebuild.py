"""What Kafka has brings consents and policies back, on Valkey; stale records are overruled."""

import random
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from axbridge.binding.v1 import events_pb2

from services.binding.consent import Consent, Parties, Policy
from services.binding.consentmessages import consent_place, policy_place
from services.binding.domain import Answered
from services.binding.ports import StoredConsent
from services.runtime.clock import SystemClock
from services.runtime.envelope import header_int
from services.runtime.ids import TimeOrderedIds
from services.runtime.record import Record
from tests.component.binding_world import until
from tests.unit.binding.cells import REGISTER_RECORDS, ReadyCell, ready_cell
from tests.unit.binding.memory import DAY_MS, TENANT
from tests.unit.binding.memory_consents import consent

IDS = TimeOrderedIds()
CLOCK = SystemClock()
STATE = "binding.state.v1"


@pytest.fixture
async def cell(valkey_url: str) -> AsyncIterator[ReadyCell]:
    async with ready_cell(valkey_url) as ready:
        yield ready


async def grant(cell: ReadyCell, tag: int, **changes: object) -> Consent:
    person = bytes([tag]) * 16
    before = await cell.consents.mark(TENANT, person)
    generation = before.generation + 1 if before else 1
    made = consent(CLOCK.epoch_ms(), IDS.new(), person, generation)
    made = replace(made, **changes)  # type: ignore[arg-type]
    await cell.consents.published(await cell.consents.put(made, made.requests[0], before), 5)
    return made


async def change(cell: ReadyCell, old: Consent, new: Consent, *, by_job: bool = False) -> Consent:
    request = None if by_job else new.requests[-1]
    await cell.consents.published(await cell.consents.put(new, request, old.mark), 5)
    return new


def request() -> Answered:
    return Answered(str(uuid.uuid4()), b"w" * 16, CLOCK.epoch_ms(), 0)


async def withdraw(cell: ReadyCell, made: Consent) -> Consent:
    asked = await change(cell, made, made.asked(request(), "1", "zh"))
    return await change(cell, asked, asked.confirmed(request(), 600_000))


async def forget(cell: ReadyCell, made: Consent) -> None:
    raw = await cell.registers.get(consent_place(TENANT, made.id))
    assert raw is not None
    entry = REGISTER_RECORDS.tombstones(raw.place, raw.version, CLOCK.epoch_ms())
    await cell.registers.published(await cell.registers.drop(raw, entry), 5)
    # It is half a year old: its request has expired.
    key = cell.cell.key("request", TENANT, made.requests[0].request_id)
    await cell.cell.redis.delete(key)


async def read(cell: ReadyCell, made: Consent) -> StoredConsent | None:
    return await cell.consents.get(TENANT, made.id)


async def set_policy(cell: ReadyCell, version: int, parties: Parties) -> None:
    made = Policy(TENANT, parties, 1000, {}, version, CLOCK.epoch_ms())
    await cell.consents.published(await cell.consents.set_policy(made), 5)


async def lived(cell: ReadyCell) -> dict[str, Consent]:
    """A life with everything in it."""
    await set_policy(cell, 1, Parties.BOTH)
    await set_policy(cell, 2, Parties.NONE)
    made = {"live": await grant(cell, 1), "old": await grant(cell, 2)}
    made["newer"] = await grant(cell, 2)
    asked = await grant(cell, 3)
    made["asked"] = await change(cell, asked, asked.asked(request(), "1", "en"))
    made["draining"] = await withdraw(cell, await grant(cell, 4))
    gone = await withdraw(cell, await grant(cell, 5))
    made["gone"] = await change(cell, gone, gone.drained(CLOCK.epoch_ms()), by_job=True)
    back = await withdraw(cell, await grant(cell, 6))
    await change(cell, back, back.drained(CLOCK.epoch_ms()), by_job=True)
    made["back"] = await grant(cell, 6)
    made["over"] = await grant(cell, 7, expire_ms=CLOCK.epoch_ms() - 200 * DAY_MS)
    await forget(cell, made["over"])
    return made


def compacted(records: list[Record]) -> list[Record]:
    """The last record of each key of each topic."""
    return list({(r.topic, r.key): r for r in records}.values())


async def test_a_lost_cell_is_what_it_was(cell: ReadyCell) -> None:
    made = await lived(cell)
    before, records = await cell.snapshot(), list(cell.records)
    for epoch, restored in enumerate((records, compacted(records), [*records, *records]), 2):
        await cell.wipe()
        await cell.begin(epoch, restored)
        assert await cell.snapshot() == before
    for name, was in made.items():
        now = await read(cell, was)
        if name == "over":
            assert now is None
        else:
            assert now is not None
            assert (now.consent, now.newest) == (was, name != "old")
    # The one whose bindings drain is found again by whoever owns the cell next.
    assert (await cell.registers.due(10))[1] == [consent_place(TENANT, made["draining"].id)]
    # What was published last is published again, under the same ids and with the same octets.
    known = {(r.topic, r.key, version(r)): r.value for r in records}
    await until(lambda: len(cell.records) > len(records))
    assert {(r.topic, r.key, version(r)): r.value for r in cell.records} == known


async def test_the_order_of_batches_does_not_matter(cell: ReadyCell) -> None:
    await lived(cell)
    before = await cell.snapshot()
    tombstoned = {r.key for r in cell.records if r.value is None}
    records = [r for r in cell.records if r.key not in tombstoned]
    for seed in range(3):
        shuffled = list(records)
        random.Random(seed).shuffle(shuffled)
        await cell.wipe()
        await cell.begin(2 + seed, shuffled)
        assert await cell.snapshot() == before


async def test_what_arrived_in_part_is_published_whole(cell: ReadyCell) -> None:
    made = await grant(cell, 1)
    state = cell.on(STATE)
    await cell.wipe()
    cell.records.clear()
    await cell.begin(2, state)
    await until(lambda: cell.on("binding.consents.v1"))
    event = cell.on("binding.consents.v1")[0]
    assert dict(event.headers)["ce_id"] == f"{made.id}-1".encode()
    assert dict(event.headers)["ce_type"] == b"axbridge.binding.v1.ConsentGranted"


async def test_a_request_is_forgotten_when_it_would_have_been(cell: ReadyCell) -> None:
    made = await grant(cell, 1)
    now, day = CLOCK.epoch_ms(), 24 * 3_600_000
    for epoch, age in enumerate((day - 60_000, day + 60_000), 2):
        old = replace(made, requests=(replace(made.requests[0], time_ms=now - age),))
        await cell.wipe()
        await cell.begin(epoch)
        await cell.registers.restore(cell.messages.register(old))
        key = cell.cell.key("request", TENANT, made.requests[0].request_id)
        left = await cell.cell.redis.pttl(key)
        assert left == -2 if age > day else 0 < left <= 60_000


async def test_a_stale_record_is_overruled_and_a_known_one_left_alone(cell: ReadyCell) -> None:
    made = await grant(cell, 1)
    first = cell.on(STATE)[0]
    asked = await change(cell, made, made.asked(request(), "1", "zh"))
    await until(lambda: len(cell.on(STATE)) == 2)
    assert not await cell.rebuild.repair(cell.on(STATE)[1])
    assert await cell.rebuild.repair(first)
    await until(lambda: len(cell.on(STATE)) == 3)
    assert cell.on(STATE)[2].value == cell.on(STATE)[1].value
    now = await read(cell, made)
    assert now is not None
    assert now.consent == asked


async def test_a_write_that_came_through_after_the_heal_has_happened(cell: ReadyCell) -> None:
    made = await grant(cell, 1)
    first = cell.on(STATE)[0]
    gone = await withdraw(cell, made)
    await until(lambda: len(cell.on(STATE)) == 3)
    newest = cell.on(STATE)[2]
    await cell.wipe()
    cell.records.clear()
    await cell.begin(2, [first])
    assert await cell.rebuild.repair(newest)
    now = await read(cell, made)
    assert now is not None
    assert now.consent == gone
    assert await cell.consents.mark(TENANT, made.tag) == gone.mark
    await until(lambda: cell.on("binding.consents.v1")[-1:] and version(cell.records[-1]) == 3)


async def test_what_was_forgotten_does_not_come_back(cell: ReadyCell) -> None:
    made = await grant(cell, 7, expire_ms=CLOCK.epoch_ms() - 200 * DAY_MS)
    stale = cell.on(STATE)[0]
    await forget(cell, made)
    await until(lambda: len(cell.on(STATE)) == 2)
    assert not await cell.rebuild.repair(cell.on(STATE)[1])
    assert await cell.rebuild.repair(stale)
    await until(lambda: len(cell.on(STATE)) == 3)
    assert cell.on(STATE)[2].value is None
    assert await read(cell, made) is None


async def test_an_erased_consent_is_not_restored(cell: ReadyCell) -> None:
    made = await grant(cell, 1)
    state = events_pb2.StateRecord.FromString(cell.on(STATE)[0].value or b"")
    cell.keyring.destroy(state.consent.secrets.key_id)
    records = list(cell.records)
    await cell.wipe()
    cell.records.clear()
    await cell.begin(2, records)
    assert await read(cell, made) is None
    await until(lambda: cell.on(STATE))  # nothing else would ever delete its record
    assert [(r.key, r.value) for r in cell.on(STATE)] == [(records[0].key, None)]
    assert await cell.registers.get(policy_place(TENANT)) is None


def version(record: Record) -> int:
    return header_int(record.headers, "ce_axversion")
