"""What allocator's functions publish, on a real Valkey."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from axbridge.allocator.v1 import events_pb2, number_pb2

from services.allocator.domain import (
    Lease,
    Mark,
    Policy,
    Wish,
)
from services.runtime.topics import (
    ALLOCATOR_NUMBERS,
    ALLOCATOR_STATE,
    partition_of,
)
from tests.unit.allocator.cells import (
    BLOCK,
    POOL,
    ReadyCell,
    make_pool,
    published,
    ready_cell,
    store_of,
)

pytestmark = pytest.mark.both_stores

A, B = b"a" * 16, b"b" * 16


@pytest.fixture
async def ready(valkey_url: str) -> AsyncIterator[ReadyCell]:
    async with ready_cell(valkey_url) as made:
        yield made


async def test_a_lease_publishes_one_event_and_the_cursor(ready: ReadyCell) -> None:
    store = store_of(ready)
    await make_pool(ready, Policy.EXCLUSIVE)
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
    await make_pool(ready, Policy.EXCLUSIVE)
    lease = (await store.lease(POOL, [Wish()], 30_000)).given[0]
    assert lease
    locked = await store.mark(lease.number, Mark.LOCK, True, "投诉", 1_700_000_000_123)
    event, record = await published(ready, 2)
    changed = events_pb2.NumberChanged.FromString(event.value)
    assert (changed.change, changed.reason) == (events_pb2.NUMBER_CHANGE_LOCKED, "投诉")
    assert (changed.number.name, changed.number.pool) == (f"numbers/{lease.number}", POOL.name)
    assert changed.number.state == number_pb2.NUMBER_STATE_LOCKED
    assert changed.number.version == locked.version == record.version
    lock = events_pb2.StateRecord.FromString(record.value).lock
    assert (lock.number, lock.lock_time.ToMilliseconds()) == (lease.number, 1_700_000_000_123)
    await store.mark(lease.number, Mark.LOCK, False, "over", 1)
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
    await make_pool(ready, Policy.EXCLUSIVE)
    leases = []
    for _ in range(50):
        leases += (await store.lease(POOL, [Wish()] * 200, 60_000)).given
    for index in (700, 3, 99):
        await store.return_leases([leases[index]])
        await asyncio.sleep(0.003)  # the queue's order is that of milliseconds
    again = (await store.lease(POOL, [Wish()] * 4, 60_000)).given
    assert [x.number for x in again] == [leases[n].number for n in (700, 3, 99)]
