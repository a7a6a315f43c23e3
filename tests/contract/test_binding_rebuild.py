"""What Kafka has brings a lost cell back, on a real Valkey; stale records are overruled."""

import random
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from axbridge.binding.v1 import events_pb2

from services.binding import modes
from services.binding.domain import Answered, Binding, Lease, Mode, Reason
from services.binding.messages import timestamp
from services.binding.ports import Stored
from services.runtime.clock import ManualClock, SystemClock
from services.runtime.envelope import header_int
from services.runtime.errors import Malformed
from services.runtime.ids import TimeOrderedIds
from services.runtime.options import Options
from services.runtime.phone import PhoneNumber
from services.runtime.record import Record
from tests.component.binding_world import until
from tests.unit.binding.cells import ReadyCell, ready_cell
from tests.unit.binding.memory import DAY_MS, binding, terms

pytestmark = pytest.mark.both_stores

IDS = TimeOrderedIds()
A, B = PhoneNumber("+8613512345678"), PhoneNumber("+8613612345678")
CLOCK = SystemClock()


@pytest.fixture
async def cell(valkey_url: str) -> AsyncIterator[ReadyCell]:
    async with ready_cell(valkey_url) as ready:
        yield ready


async def create(cell: ReadyCell, epoch: int, **changes: object) -> Binding:
    identity = IDS.new()
    made = binding(
        ManualClock(CLOCK.now()), identity, number=f"7001000000{epoch:05d}", lease_epoch=epoch,
        tag_a=epoch.to_bytes(16), tag_b=(epoch + 500).to_bytes(16),
    )  # fmt: skip
    made = replace(made, **changes)  # type: ignore[arg-type]
    lease = Lease(made.number, epoch, CLOCK.epoch_ms() + 9000, made.exclusive, made.cooling_ms)
    tag = cell.tags.order(made.tenant, made.terms.order_id)
    b = B if made.tag_b else None
    await cell.bindings.published(await cell.bindings.create(made, A, b, tag, lease), 5)
    return made


async def read(cell: ReadyCell, made: Binding) -> Stored:
    stored = await cell.bindings.get(made.id)
    assert stored is not None
    return stored


async def release(cell: ReadyCell, made: Binding, at: int = 0) -> None:
    old = await read(cell, made)
    new = old.binding.released(at or CLOCK.epoch_ms(), Reason.REQUESTED)
    await cell.bindings.published(await cell.bindings.release(old, new), 5)


async def change(cell: ReadyCell, made: Binding) -> None:
    old = await read(cell, made)
    request = Answered(IDS.new(), b"u" * 16, CLOCK.epoch_ms(), 0)
    new = old.binding.updated(old.binding.version, CLOCK.epoch_ms() + 5 * DAY_MS, request)
    await cell.bindings.published(await cell.bindings.change(old, new), 5)


async def lived(cell: ReadyCell) -> None:
    """A life with everything in it: live, changed, ended, shared, forgotten, used again."""
    await create(cell, 1)
    await change(cell, await create(cell, 2))
    await release(cell, await create(cell, 3))
    shared = {"exclusive": False, "number": "700100000099999"}
    first = await create(cell, 4, **shared)
    await create(cell, 5, **shared)
    await release(cell, first)
    gone = await create(cell, 6, cooling_ms=0)
    await release(cell, gone, CLOCK.epoch_ms() - DAY_MS - 1000)
    [sequence] = await cell.sweeps.forget([await read(cell, gone)])
    assert isinstance(sequence, int)
    await cell.bindings.published(sequence, 5)
    await create(cell, 7, number=gone.number)
    await modes_lived(cell)
    await two_numbers_lived(cell)


def axyb(epoch: int, x: str, y: str) -> dict[str, Any]:
    options = Options(numbers=f"{x}-{y}")
    return {
        "number": x, "second_epoch": epoch,
        "terms": terms(ManualClock(CLOCK.now()), mode=Mode.AXYB, options=options),
    }  # fmt: skip


async def two_numbers_lived(cell: ReadyCell) -> None:
    """AXYB: alone, ended, and two on the same shared pair of numbers, of which one rests."""
    await create(cell, 21, **axyb(31, "700100000000021", "700100000000031"))
    gone = await create(cell, 22, **axyb(32, "700100000000022", "700100000000032"))
    await release(cell, gone)
    shared = "700100000099997", "700100000099996"
    first = await create(cell, 23, exclusive=False, **axyb(33, *shared))
    await create(cell, 24, exclusive=False, **axyb(34, *shared))
    await release(cell, first)


async def modes_lived(cell: ReadyCell) -> None:
    """AX with a callee, upgraded, and ended; an extension, one that rests and one that went."""
    now = CLOCK.epoch_ms()
    alone = {"tag_b": b"", "terms": terms(ManualClock(CLOCK.now()), mode=Mode.AX)}
    await create(cell, 11, **alone)
    for epoch in (12, 13):
        old = await read(cell, await create(cell, epoch, **alone))
        named = modes.named(old.binding, b"y" * 16, Answered(IDS.new(), b"u" * 16, now, 0))
        await cell.bindings.published(await cell.bindings.change(old, named, B), 5)
    old = await read(cell, old.binding)
    pair = modes.upgraded(old.binding, 2, b"z" * 16, Answered(IDS.new(), b"u" * 16, now, 0))
    await cell.bindings.published(await cell.bindings.change(old, pair, B), 5)
    await release(cell, await create(cell, 14, **alone))
    for epoch, extension, cooling_ms in ((17, "1", 60_000), (16, "2", 60_000), (15, "3", 0)):
        options = Options(extension=extension, sms=False)
        axe = terms(ManualClock(CLOCK.now()), mode=Mode.AXE, options=options)
        made = await create(
            cell, epoch, tag_b=b"", terms=axe, exclusive=False, number="700100000099998",
            cooling_ms=cooling_ms,
        )  # fmt: skip
        if extension == "2":
            await release(cell, made)
    await release(cell, made, now - DAY_MS - 1000)
    [sequence] = await cell.sweeps.forget([await read(cell, made)])
    assert isinstance(sequence, int)
    await cell.bindings.published(sequence, 5)


async def test_a_lost_cell_is_what_it_was(cell: ReadyCell) -> None:
    await lived(cell)
    before, records = await cell.snapshot(), list(cell.records)
    for restored in (records, compacted(records), [*records, *records]):
        await cell.wipe()
        await cell.begin(2, restored)
        assert await cell.snapshot() == before
    # What was published last is published again, under the same ids and with the same octets.
    known = {(r.topic, r.key, version(r)): r.value for r in records}
    await until(lambda: len(cell.records) > len(records))
    assert {(r.topic, r.key, version(r)): r.value for r in cell.records} == known


async def test_what_arrived_in_part_is_published_whole(cell: ReadyCell) -> None:
    made = await create(cell, 1)
    state = [r for r in cell.records if r.topic in ("binding.state.v1", "binding.keys.v1")]
    await cell.wipe()
    cell.records.clear()
    await cell.begin(2, state)
    await until(lambda: cell.on("binding.bindings.v1"))
    assert dict(cell.on("binding.bindings.v1")[0].headers)["ce_id"] == f"{made.id}-1".encode()
    assert version(cell.on("binding.routes.v1")[0]) == 1


async def test_a_lost_tombstone_is_published_again(cell: ReadyCell) -> None:
    made = await create(cell, 1)
    await release(cell, made)
    await until(lambda: len(cell.on("binding.routes.v1")) == 2)
    ended = cell.on("binding.routes.v1")[1]
    await cell.wipe()
    cell.records.clear()
    await cell.begin(2, [ended])
    await until(lambda: cell.on("binding.state.v1"))
    assert [r.value for r in cell.records] == [None, None]
    assert await cell.bindings.get(made.id) is None


async def test_the_order_of_batches_and_stale_records_do_not_matter(cell: ReadyCell) -> None:
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


def compacted(records: list[Record]) -> list[Record]:
    """The last record of each key of each topic."""
    return list({(r.topic, r.key): r for r in records}.values())


async def test_a_store_that_is_behind_kafka_is_brought_forward(cell: ReadyCell) -> None:
    made = await create(cell, 1)
    behind = await cell.cell.redis.dump(cell.bindings.places.binding(made.id))
    await change(cell, made)
    now = await read(cell, made)
    assert behind is not None
    await cell.cell.redis.restore(cell.bindings.places.binding(made.id), 0, behind, replace=True)
    await cell.begin(2, cell.records)
    assert (await read(cell, made)).binding == now.binding


async def test_one_of_two_routes_is_enough_to_release_both(cell: ReadyCell) -> None:
    made = await create(cell, 1, **axyb(9, "700100000000001", "700100000000009"))
    keys, routes = cell.on("binding.keys.v1"), cell.on("binding.routes.v1")
    assert [r.key.decode().partition("/")[0] for r in routes] == list(made.numbers)
    for epoch, only in enumerate(routes, start=2):
        await cell.wipe()
        cell.records.clear()
        await cell.begin(epoch, [*keys, only])
        ended = (await read(cell, made)).binding
        assert (ended.version, ended.reason, ended.numbers) == (2, Reason.UNCONFIRMED, made.numbers)
        assert (ended.lease_epoch, ended.second_epoch) == (1, 9)
        await until(lambda: len(cell.on("binding.routes.v1")) >= 2)
        again = [events_pb2.Route.FromString(r.value or b"") for r in cell.on("binding.routes.v1")]
        assert {(r.number, r.version, r.lease_epoch) for r in again} == {
            (made.number, 2, 1), (made.second, 2, 9),
        }  # fmt: skip


async def test_a_stale_route_of_the_second_number_is_overruled(cell: ReadyCell) -> None:
    made = await create(cell, 1, **axyb(9, "700100000000001", "700100000000009"))
    stale = cell.on("binding.routes.v1")[1]
    assert stale.key.startswith(made.second.encode())
    assert not await cell.rebuild.repair(stale)
    await release(cell, made)
    await until(lambda: len(cell.on("binding.routes.v1")) == 4)
    assert await cell.rebuild.repair(stale)
    await until(lambda: len(cell.on("binding.routes.v1")) == 6)
    assert [version(r) for r in cell.on("binding.routes.v1")[4:]] == [2, 2]


async def test_a_creation_that_only_reached_the_routes_is_released(cell: ReadyCell) -> None:
    made = await create(cell, 1)
    routes = [r for r in cell.records if r.topic != "binding.state.v1"]
    await cell.wipe()
    await cell.begin(2, routes)
    ended = (await read(cell, made)).binding
    assert (ended.version, ended.reason, ended.live) == (2, Reason.UNCONFIRMED, False)
    await until(lambda: len(cell.on("binding.bindings.v1")) >= 2)
    last = events_pb2.Route.FromString(cell.on("binding.routes.v1")[-1].value or b"")
    assert (last.version, last.callee_a.box, last.tag_a) == (2, b"", made.tag_a)
    # The number and the request id can be used again.
    assert await cell.bindings.answered(made.tenant, made.requests[0].request_id) is None
    await create(cell, 2, number=made.number, requests=made.requests)


async def test_a_change_that_only_reached_the_routes_is_taken_back(cell: ReadyCell) -> None:
    made = await create(cell, 1)
    kept = list(cell.records)
    await change(cell, made)
    await until(lambda: len(cell.on("binding.routes.v1")) == 2)
    routes = [r for r in cell.on("binding.routes.v1") if r not in kept]
    await cell.wipe()
    await cell.begin(2, [*kept, *routes])
    now = (await read(cell, made)).binding
    assert (now.version, now.terms) == (3, made.terms)
    await until(lambda: version(cell.on("binding.routes.v1")[-1]) == 3)
    await change(cell, made)  # its copies open: they were sealed for the new version
    assert (await read(cell, made)).binding.version == 4


async def test_what_a_broken_off_heal_suspected_is_not_overruled_by_the_next(
    cell: ReadyCell,
) -> None:
    made = await create(cell, 1)
    records = list(cell.records)
    await cell.wipe()
    await cell.cell.raw("heal_begin", args=("test", 600_000, b"broken off"))
    await cell.rebuild.restore(cell.on("binding.routes.v1"), b"broken off")
    await cell.begin(2, records)
    assert (await read(cell, made)).binding.version == 1


async def test_stale_records_are_overruled_and_known_ones_left_alone(cell: ReadyCell) -> None:
    made = await create(cell, 1)
    first = cell.on("binding.routes.v1")[0]
    await release(cell, made)
    await until(lambda: len(cell.on("binding.routes.v1")) == 2)
    assert not await cell.rebuild.repair(cell.on("binding.routes.v1")[1])
    assert await cell.rebuild.repair(first)
    await until(lambda: len(cell.on("binding.routes.v1")) == 3)
    assert cell.on("binding.routes.v1")[2].value == cell.on("binding.routes.v1")[1].value
    foreign = replace(first, headers=[("ce_source", b"/axbridge/binding/other")])
    assert not await cell.rebuild.repair(foreign)


async def test_a_record_above_the_store_is_overruled(cell: ReadyCell) -> None:
    made = await create(cell, 1)
    state = cell.on("binding.state.v1")[0]
    await release(cell, made)
    await until(lambda: len(cell.on("binding.state.v1")) == 2)
    newer = cell.on("binding.state.v1")[1]
    await cell.wipe()
    await cell.begin(2, [state, *cell.on("binding.keys.v1")])
    assert (await read(cell, made)).binding.live
    assert await cell.rebuild.repair(newer)
    now = (await read(cell, made)).binding
    assert (now.version, now.reason) == (3, Reason.REQUESTED)


async def test_a_route_key_is_repaired_and_restored(cell: ReadyCell) -> None:
    await create(cell, 1)
    key = cell.on("binding.keys.v1")[0]
    assert not await cell.rebuild.repair(key)
    assert await cell.rebuild.repair(replace(key, value=b"other"))
    await until(lambda: len(cell.on("binding.keys.v1")) == 2)
    again = cell.on("binding.keys.v1")[1]
    assert (again.value, version(again)) == (key.value, 2)


def version(record: Record) -> int:
    return header_int(record.headers, "ce_axversion")


async def test_a_record_that_contradicts_the_version_that_stands_is_told_and_overruled(
    cell: ReadyCell,
) -> None:
    made = await create(cell, 1)
    route = events_pb2.Route.FromString(cell.on("binding.routes.v1")[0].value or b"")
    route.expire_time.seconds += 60
    wrong = replace(cell.on("binding.routes.v1")[0], value=route.SerializeToString())
    with pytest.raises(Malformed, match="VERSION_CONTRADICTED"):
        await cell.rebuild.repair(wrong)
    assert await cell.rebuild.repair(wrong, overrule=True)
    await until(lambda: len(cell.on("binding.routes.v1")) == 2)
    again = events_pb2.Route.FromString(cell.on("binding.routes.v1")[1].value or b"")
    assert (again.version, again.expire_time) == (2, timestamp(made.terms.expire_ms))


async def test_what_kafka_lost_is_published_again(cell: ReadyCell) -> None:
    made = [await create(cell, epoch) for epoch in range(1, 8)]
    await release(cell, made[0])
    stood = await cell.snapshot()
    await until(lambda: len(cell.on("binding.bindings.v1")) == 8)
    newest = {(r.topic, r.key): r.value for r in cell.records}
    cell.records.clear()
    await cell.rebuild.announce()
    compacted = list(cell.rebuild.topics)
    again = {(r.topic, r.key): r.value for r in cell.records}
    assert {at: value for at, value in again.items() if at[0] in compacted} == {
        at: value for at, value in newest.items() if at[0] in compacted
    }
    assert await cell.snapshot() == stood
