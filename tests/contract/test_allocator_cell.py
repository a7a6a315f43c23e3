"""What allocator's functions write on Valkey: outbox, tags, restored and repaired records."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from axbridge.allocator.v1 import events_pb2, number_pb2
from axbridge.runtime.v1 import outbox_pb2

from services.allocator.domain import (
    Block,
    Lease,
    Policy,
    Pool,
    PoolId,
    RouteChange,
    RouteState,
    State,
    Wish,
)
from services.allocator.fold import CellRouteFold
from services.allocator.rebuild import AllocatorRebuild
from services.allocator.store import CellNumberStore
from services.runtime.clock import SystemClock
from services.runtime.envelope import Envelope
from services.runtime.errors import NotFound
from services.runtime.keyring import MemoryKeyRing
from services.runtime.record import Record
from services.runtime.topics import (
    ALLOCATOR_NUMBERS,
    ALLOCATOR_STATE,
    BINDING_ROUTES,
    partition_of,
)
from tests.unit.allocator.cells import ReadyCell, ready_cell

POOL = PoolId("didi", "city")
BLOCK = "70010000001"
A, B = b"a" * 16, b"b" * 16
PARTITIONS = {ALLOCATOR_NUMBERS.name: 8, ALLOCATOR_STATE.name: 4}


@pytest.fixture
async def ready(valkey_url: str) -> AsyncIterator[ReadyCell]:
    async with ready_cell(valkey_url) as made:
        yield made


def store_of(ready: ReadyCell, keys: MemoryKeyRing | None = None) -> CellNumberStore:
    return CellNumberStore(ready.cell, keys or MemoryKeyRing(), PARTITIONS, grace_ms=0)


def rebuild_of(ready: ReadyCell, keys: MemoryKeyRing) -> AllocatorRebuild:
    return AllocatorRebuild(ready.cell, keys, "unused:1", 4, SystemClock())


async def make_pool(store: CellNumberStore, policy: Policy, cooling_ms: int = 60_000) -> None:
    await store.create_pool(Pool(POOL, policy, cooling_ms, 1500))
    await store.register_block(Block(BLOCK, POOL, 2500))


async def published(ready: ReadyCell, count: int) -> Sequence[outbox_pb2.OutboxRecord]:
    """The newest `count` records, once the outbox is empty."""
    deadline = time.monotonic() + 5
    while await ready.cell.redis.xlen(ready.cell.key("outbox")):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    return ready.records[-count:]


def as_record(ready: ReadyCell, out: outbox_pb2.OutboxRecord) -> Record:
    """The record as it would come back from Kafka."""
    source = f"/axbridge/allocator/{ready.cell.name}"
    envelope = Envelope(out.event_id or "x", out.type, source, out.time_ms, out.version, 1, 1)
    value = None if out.tombstone else out.value
    return Record(out.topic, out.partition, 0, out.key, value, envelope.headers(), out.time_ms)


async def test_a_lease_publishes_one_event_and_the_cursor(ready: ReadyCell) -> None:
    store = store_of(ready)
    await make_pool(store, Policy.EXCLUSIVE)
    leased = await store.lease(POOL, [Wish()] * 3, 30_000)
    block, event = await published(ready, 2)
    assert (event.topic, event.key) == (ALLOCATOR_NUMBERS.name, b"didi/city")
    assert event.partition == partition_of("didi/city", 8)
    assert event.event_id == f"allocator.{ready.cell.name}.{event.version}"
    found = events_pb2.NumbersLeased.FromString(event.value)
    assert found.pool == POOL.name
    assert [Lease(x.number, x.epoch, x.expire_time.ToMilliseconds()) for x in found.leases] == list(
        leased.leases
    )
    assert {(x.policy, x.cooling.seconds) for x in found.leases} == {
        (number_pb2.POOL_POLICY_EXCLUSIVE, 60)
    }
    assert (block.topic, block.key) == (ALLOCATOR_STATE.name, f"block/{BLOCK}".encode())
    assert (block.partition, block.event_id) == (partition_of(f"block/{BLOCK}", 4), "")
    state = events_pb2.StateRecord.FromString(block.value)
    assert (state.version, state.block.cursor) == (block.version, 3)
    assert state.block.lease_epoch == found.leases[-1].epoch
    assert state.block.block.name == f"blocks/{BLOCK}"
    assert abs(event.time_ms - time.time() * 1000) < 5000


async def test_locks_and_returns_publish_the_number_as_it_is(ready: ReadyCell) -> None:
    store = store_of(ready)
    await make_pool(store, Policy.EXCLUSIVE)
    lease = (await store.lease(POOL, [Wish()], 30_000)).leases[0]
    assert lease
    locked = await store.lock(lease.number, "投诉", 1_700_000_000_123)
    event, record = await published(ready, 2)
    changed = events_pb2.NumberChanged.FromString(event.value)
    assert (changed.change, changed.reason) == (events_pb2.NUMBER_CHANGE_LOCKED, "投诉")
    assert (changed.number.name, changed.number.pool) == (f"numbers/{lease.number}", POOL.name)
    assert changed.number.state == number_pb2.NUMBER_STATE_LOCKED
    assert changed.number.version == locked.version == record.version
    lock = events_pb2.StateRecord.FromString(record.value).lock
    assert (lock.number, lock.lock_time.ToMilliseconds()) == (lease.number, 1_700_000_000_123)
    await store.unlock(lease.number, "over")
    _, record = await published(ready, 2)
    assert (record.tombstone, record.key) == (True, f"lock/{lease.number}".encode())
    await store.return_leases([lease])
    (event,) = await published(ready, 1)
    changed = events_pb2.NumberChanged.FromString(event.value)
    assert changed.change == events_pb2.NUMBER_CHANGE_RETURNED
    assert changed.number.state == number_pb2.NUMBER_STATE_FREE
    pool = events_pb2.PoolCreated.FromString(ready.records[0].value).pool
    assert pool.create_time.ToMilliseconds() == 1500
    registered = events_pb2.BlockRegistered.FromString(ready.records[2].value)
    assert (registered.tenant, registered.block.pool) == ("didi", POOL.name)


async def test_used_numbers_come_back_oldest_first(ready: ReadyCell) -> None:
    store = store_of(ready)
    await make_pool(store, Policy.EXCLUSIVE)
    leases = []
    for _ in range(50):
        leases += [x for x in (await store.lease(POOL, [Wish()] * 200, 60_000)).leases if x]
    for index in (700, 3, 99):
        await store.return_leases([leases[index]])
        await asyncio.sleep(0.003)  # the queue's order is that of milliseconds
    again = (await store.lease(POOL, [Wish()] * 4, 60_000)).leases
    assert [x and x.number for x in again] == [*(leases[n].number for n in (700, 3, 99)), None]


async def test_tags_leave_no_trace(ready: ReadyCell) -> None:
    store, fold = store_of(ready), CellRouteFold(ready.cell)
    await make_pool(store, Policy.SHARED)
    lease = (await store.lease(POOL, [Wish((A, B))], 30_000)).leases[0]
    assert lease
    position = (BINDING_ROUTES.name, 0)
    tag = ready.cell.key("tag:").encode() + A
    active = RouteChange(RouteState.ACTIVE, lease.number, "b", 1, lease.epoch, 0, (A, B))
    await fold.follow([(position, 0, active)], {position: (0, 1)})
    assert await ready.cell.redis.pttl(tag) == -1
    till = int(time.time() * 1000) + 150
    released = RouteChange(RouteState.RELEASED, lease.number, "b", 2, lease.epoch, till, (A, B))
    await fold.follow([(position, 1, released)], {position: (1, 2)})
    assert 0 < await ready.cell.redis.pttl(tag) <= 150
    await asyncio.sleep(0.2)
    assert not await ready.cell.redis.exists(tag)


async def test_a_new_store_is_restored_from_the_records(
    ready: ReadyCell, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = MemoryKeyRing()
    store = store_of(ready, keys)
    await make_pool(store, Policy.EXCLUSIVE)
    leases = [x for x in (await store.lease(POOL, [Wish()] * 20, 60_000)).leases if x]
    await store.lock(leases[0].number, "abuse", 1)
    await store.lock(leases[1].number, "abuse", 1)
    await store.unlock(leases[1].number, "over")
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
    found = await store.statistics(POOL)
    assert (found.total, found.locked, found.cooling, found.free) == (10_000, 1, 19, 9_980)
    new = [x for x in (await store.lease(POOL, [Wish()] * 50, 60_000)).leases if x]
    assert not {x.number for x in new} & {x.number for x in leases}
    assert new[0].epoch > leases[-1].epoch
    await store.get_pool(POOL)


async def test_a_stale_record_is_repaired(ready: ReadyCell) -> None:
    keys = MemoryKeyRing()
    store, rebuild = store_of(ready, keys), rebuild_of(ready, keys)
    await make_pool(store, Policy.EXCLUSIVE)
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
    await make_pool(store, Policy.EXCLUSIVE)
    await store.lease(POOL, [Wish()], 60_000)
    await ready.cell.redis.delete(*await ready.cell.redis.keys(ready.cell.key("*")))
    await ready.begin(2)
    with pytest.raises(NotFound, match="POOL_NOT_FOUND"):
        await store.lease(POOL, [Wish()], 60_000)
    await make_pool(store, Policy.SHARED)
    assert (await store.lease(POOL, [Wish()], 60_000)).pool.policy is Policy.SHARED
