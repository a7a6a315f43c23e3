"""What is restored to a new store, and repaired on the topic, on a real Valkey."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from axbridge.allocator.v1 import events_pb2

from services.allocator.domain import (
    Mark,
    Policy,
    State,
    Wish,
)
from services.allocator.rebuild import AllocatorRebuild
from services.runtime.clock import SystemClock
from services.runtime.envelope import Envelope
from services.runtime.errors import Malformed, NotFound
from services.runtime.keyring import MemoryKeyRing
from services.runtime.record import Record
from services.runtime.topics import (
    ALLOCATOR_STATE,
)
from tests.unit.allocator.cells import (
    BLOCK,
    POOL,
    ReadyCell,
    as_record,
    catalogue_of,
    make_pool,
    published,
    ready_cell,
    store_of,
)

pytestmark = pytest.mark.both_stores

A, B = b"a" * 16, b"b" * 16
STATE = ALLOCATOR_STATE.name


@pytest.fixture
async def ready(valkey_url: str) -> AsyncIterator[ReadyCell]:
    async with ready_cell(valkey_url) as made:
        yield made


def rebuild_of(ready: ReadyCell, keys: MemoryKeyRing) -> AllocatorRebuild:
    return AllocatorRebuild(ready.cell, keys, "unused:1", 4, SystemClock())


async def test_a_new_store_is_restored_from_the_records(
    ready: ReadyCell, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = MemoryKeyRing()
    store = store_of(ready, keys)
    await make_pool(ready, Policy.EXCLUSIVE)
    leases = (await store.lease(POOL, [Wish()] * 20, 60_000)).given
    await store.mark(leases[0].number, Mark.LOCK, True, "abuse", 1)
    await store.mark(leases[1].number, Mark.LOCK, True, "abuse", 1)
    await store.mark(leases[1].number, Mark.LOCK, False, "over", 1)
    await published(ready, 1)
    records = [as_record(ready, r) for r in ready.records if r.topic == ALLOCATOR_STATE.name]
    await ready.cell.redis.delete(*await ready.cell.redis.keys(ready.cell.key("*")))
    await ready.begin(2)

    async def nothing(*_: Any) -> dict[Any, Any]:
        return {}

    monkeypatch.setattr("services.allocator.rebuild.read_to_end", nothing)
    rebuild = rebuild_of(ready, keys)
    other = Record("t", 0, 0, b"pool/x/y", b"", Envelope("i", "t", "/other", 0).headers(), 0)
    await rebuild.restore([other, *reversed(records)], b"2")
    await rebuild.finish(b"2")
    assert (await store.get_number(leases[0].number)).state is State.LOCKED
    assert (await store.get_number(leases[1].number)).state is State.COOLING
    found = await catalogue_of(ready).statistics(POOL)
    assert (found.total, found.locked, found.cooling, found.free) == (10_000, 1, 19, 9_980)
    new = (await store.lease(POOL, [Wish()] * 50, 60_000)).given
    assert not {x.number for x in new} & {x.number for x in leases}
    assert new[0].epoch > leases[-1].epoch
    await catalogue_of(ready).get_pool(POOL)


async def test_what_a_broken_off_heal_read_is_not_restored_by_the_next(
    ready: ReadyCell, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = MemoryKeyRing()
    store = store_of(ready, keys)
    await make_pool(ready, Policy.EXCLUSIVE)
    number = f"{BLOCK}0001"
    await store.mark(number, Mark.LOCK, True, "abuse", 1)
    await published(ready, 1)
    records = [as_record(ready, r) for r in ready.records if r.topic == ALLOCATOR_STATE.name]
    await ready.cell.redis.delete(*await ready.cell.redis.keys(ready.cell.key("*")))
    await ready.begin(2)

    async def nothing(*_: Any) -> dict[Any, Any]:
        return {}

    monkeypatch.setattr("services.allocator.rebuild.read_to_end", nothing)
    rebuild = rebuild_of(ready, keys)
    await rebuild.restore(records, b"broken off")
    # It was unlocked since, and its tombstone is compacted away.
    await rebuild.restore([r for r in records if not r.key.startswith(b"lock/")], b"2")
    await rebuild.finish(b"2")
    assert (await store.get_number(number)).state is State.FREE


async def test_a_stale_record_is_repaired(ready: ReadyCell) -> None:
    keys = MemoryKeyRing()
    store, rebuild = store_of(ready, keys), rebuild_of(ready, keys)
    await make_pool(ready, Policy.EXCLUSIVE)
    await store.lease(POOL, [Wish()], 60_000)
    old, _ = await published(ready, 2)
    await store.lease(POOL, [Wish()], 60_000)
    new, _ = await published(ready, 2)
    assert not await rebuild.repair(as_record(ready, new))
    assert await rebuild.repair(as_record(ready, old))
    (again,) = await published(ready, 1)
    assert (again.value, again.version, again.key) == (new.value, new.version, new.key)
    ahead = as_record(ready, new)
    headers = [(k, b"999999999999" if k == "ce_axversion" else v) for k, v in ahead.headers]
    ahead = Record(ahead.topic, 0, 0, ahead.key, ahead.value, headers, 0)
    assert await rebuild.repair(ahead)
    (again,) = await published(ready, 1)
    state = events_pb2.StateRecord.FromString(again.value)
    assert state.block.cursor == 2
    assert state.version == again.version > new.version
    unknown = Record(ahead.topic, 0, 0, b"pool/didi/lost", ahead.value, ahead.headers, 0)
    assert await rebuild.repair(unknown)
    (again,) = await published(ready, 1)
    assert (again.tombstone, again.key) == (True, b"pool/didi/lost")


async def test_a_pool_lost_with_the_store_is_forgotten(ready: ReadyCell) -> None:
    store = store_of(ready)
    await make_pool(ready, Policy.EXCLUSIVE)
    await store.lease(POOL, [Wish()], 60_000)
    await ready.cell.redis.delete(*await ready.cell.redis.keys(ready.cell.key("*")))
    await ready.begin(2)
    with pytest.raises(NotFound, match="POOL_NOT_FOUND"):
        await store.lease(POOL, [Wish()], 60_000)
    await make_pool(ready, Policy.SHARED)
    assert (await store.lease(POOL, [Wish()], 60_000)).pool.policy is Policy.SHARED


async def test_a_record_that_contradicts_the_version_that_stands_is_told_and_overruled(
    ready: ReadyCell,
) -> None:
    keys = MemoryKeyRing()
    store, rebuild = store_of(ready, keys), rebuild_of(ready, keys)
    await make_pool(ready, Policy.EXCLUSIVE)
    await store.lease(POOL, [Wish()], 60_000)
    block, _ = await published(ready, 2)
    state = events_pb2.StateRecord.FromString(block.value)
    state.block.cursor += 1
    wrong = replace(as_record(ready, block), value=state.SerializeToString())
    with pytest.raises(Malformed, match="VERSION_CONTRADICTED"):
        await rebuild.repair(wrong)
    assert await rebuild.repair(wrong, overrule=True)
    (again,) = await published(ready, 1)
    assert again.version > block.version
    assert events_pb2.StateRecord.FromString(again.value).block.cursor == 1


async def test_a_pool_of_several_cells_has_a_record_of_each(ready: ReadyCell) -> None:
    """Else compaction would keep one cell's alone."""
    await make_pool(ready, Policy.SHARED)
    keys = {record.key.decode() for record in await published(ready, 4) if record.topic == STATE}
    assert keys == {f"pool/{POOL.path}@{ready.cell.name}", f"block/{BLOCK}"}


async def test_what_kafka_lost_is_published_again(ready: ReadyCell) -> None:
    keys = MemoryKeyRing()
    store, rebuild = store_of(ready, keys), rebuild_of(ready, keys)
    await make_pool(ready, Policy.SHARED)
    [lease] = (await store.lease(POOL, [Wish()], 60_000)).given
    await store.mark(lease.number, Mark.LOCK, True, "why", 1)
    state = [record for record in await published(ready, 8) if record.topic == STATE]
    newest = {record.key: record.value for record in state}
    await rebuild.announce()
    again = {record.key: record.value for record in await published(ready, 3)}
    assert again == newest
    assert len(again) == 3
