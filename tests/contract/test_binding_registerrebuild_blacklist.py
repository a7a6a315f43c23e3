"""What Kafka has brings blacklists back, on Valkey; routers are told again where they are wrong."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from axbridge.binding.v1 import events_pb2

from services.binding.blacklist import Entry, Target
from services.binding.blacklistmessages import entry_place
from services.runtime.clock import SystemClock
from services.runtime.ids import TimeOrderedIds
from services.runtime.record import Record
from tests.component.binding_world import until
from tests.unit.binding.cells import ReadyCell, ready_cell
from tests.unit.binding.memory import DAY_MS, TENANT
from tests.unit.binding.memory_blacklist import entry

IDS = TimeOrderedIds()
CLOCK = SystemClock()
STATE, DENIALS = "binding.state.v1", "binding.denials.v1"
TAG, OTHER = b"a" * 16, b"b" * 16


@pytest.fixture
async def cell(valkey_url: str) -> AsyncIterator[ReadyCell]:
    async with ready_cell(valkey_url) as ready:
        yield ready


async def add(cell: ReadyCell, callee: bytes = b"", life_ms: int = DAY_MS) -> Entry:
    target = Target(TAG, callee, "")
    before = await cell.blacklist.mark(TENANT, target)
    made = entry(CLOCK.epoch_ms(), IDS.new(), target, life_ms)
    if before:
        made = replace(made, create_ms=before.create_ms + 1)
    await cell.blacklist.published(await cell.blacklist.put(made, made.requests[0], before), 5)
    return made


async def end(cell: ReadyCell, old: Entry) -> Entry:
    ended = old.ended(CLOCK.epoch_ms())
    await cell.blacklist.published(await cell.blacklist.put(ended, None), 5)
    return ended


async def read(cell: ReadyCell, made: Entry) -> Entry | None:
    stored = await cell.blacklist.get(TENANT, made.id)
    return stored.entry if stored else None


async def published(cell: ReadyCell, topic: str, count: int) -> list[Record]:
    await until(lambda: len(cell.on(topic)) == count)
    return cell.on(topic)


async def test_a_lost_cell_is_what_it_was_in_whatever_order_it_is_read(cell: ReadyCell) -> None:
    over = await add(cell, life_ms=-1)
    newer = await add(cell)
    pair = await add(cell, OTHER)
    gone = await end(cell, pair)
    before, records = await cell.snapshot(), list(cell.records)
    compacted = list({(r.topic, r.key): r for r in records}.values())
    for epoch, restored in enumerate((records, compacted, compacted[::-1]), 2):
        await cell.wipe()
        await cell.begin(epoch, restored)
        assert await cell.snapshot() == before
    assert [await read(cell, each) for each in (over, newer, pair)] == [over, newer, gone]
    mark = await cell.blacklist.mark(TENANT, newer.target)
    assert mark is not None
    assert mark.entry == newer.id
    known = {(r.topic, r.key): r.value for r in compacted}
    await until(lambda: len(cell.records) > len(records))
    for record in cell.records[len(records) :]:  # again what stands, and nothing else
        assert record.value == known[record.topic, record.key]


async def test_a_heal_takes_back_from_routers_what_is_not_so(cell: ReadyCell) -> None:
    made, lost = await add(cell), await add(cell, OTHER)
    states, denials = await published(cell, STATE, 2), await published(cell, DENIALS, 2)
    await end(cell, made)
    ended = (await published(cell, STATE, 3))[2]
    # The relay died before the denial of the removal, and before the state of the second entry; of
    # a third, only the denial ever came.
    await cell.wipe()
    cell.records.clear()
    await cell.begin(2, [states[0], ended, *denials])
    assert await read(cell, lost) is None
    again = {r.key: r.value for r in await published(cell, DENIALS, 2)}
    assert again == {denials[0].key: None, denials[1].key: None}


async def test_a_stale_denial_is_overruled_and_a_known_one_left_alone(cell: ReadyCell) -> None:
    made = await add(cell)
    stale = cell.on(DENIALS)[0]
    assert not await cell.rebuild.repair(stale)
    await end(cell, made)
    gone = (await published(cell, DENIALS, 2))[1]
    assert not await cell.rebuild.repair(gone)
    assert await cell.rebuild.repair(stale)
    assert (await published(cell, DENIALS, 3))[2].value is None


async def test_a_removal_that_came_through_after_the_heal_has_happened(cell: ReadyCell) -> None:
    made = await add(cell)
    first = cell.on(STATE)[0]
    gone = await end(cell, made)
    newest, denial = (await published(cell, STATE, 2))[1], cell.on(DENIALS)[1]
    await cell.wipe()
    await cell.begin(2, [first])
    assert await cell.rebuild.repair(denial)  # alone it is taken back
    assert await read(cell, made) == made
    assert await cell.rebuild.repair(newest)
    assert await read(cell, made) == gone
    await until(lambda: cell.on(DENIALS)[-1].value is None)


async def test_an_erased_entry_is_not_restored(cell: ReadyCell) -> None:
    made = await add(cell)
    state = events_pb2.StateRecord.FromString(cell.on(STATE)[0].value or b"")
    cell.keyring.destroy(state.blacklist_entry.secrets.key_id)
    records = list(cell.records)
    await cell.wipe()
    cell.records.clear()
    await cell.begin(2, records)
    assert await cell.registers.get(entry_place(TENANT, made.id)) is None
    await until(lambda: {r.key for r in cell.on(DENIALS)} & {r.key for r in cell.on(STATE)})
    assert all(r.value is None for r in cell.records if r.topic in (STATE, DENIALS))
