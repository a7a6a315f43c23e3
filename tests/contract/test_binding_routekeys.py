"""Route keys on a real Valkey: one key whoever asks, known only once it is acknowledged; over and
gone a day after its day; wrapped anew without becoming another."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from axbridge.binding.v1 import events_pb2

from services.binding.routekeys import RouteKeys
from services.binding.store import LIBRARY, SERVICE
from services.runtime.cell import Cell
from services.runtime.clock import ManualClock, SystemClock
from services.runtime.envelope import header_int
from services.runtime.errors import Unavailable
from services.runtime.keyring import KeyDestroyed
from services.runtime.record import Record
from services.runtime.wrapping import route_key_id
from tests.unit.binding.cells import RECORDS, ReadyCell, ready_cell

pytestmark = pytest.mark.both_stores

TODAY = datetime.now(UTC)
KEY = route_key_id("didi", TODAY)
OLD = route_key_id("didi", TODAY - timedelta(days=2))


def keys_of(ready: ReadyCell, label: str = "1", now: datetime = TODAY) -> RouteKeys:
    return RouteKeys(ready.cell, RECORDS, ready.keyring, ManualClock(now), label)


def last(ready: ReadyCell) -> tuple[Record, events_pb2.RouteKey]:
    record = ready.on("binding.keys.v1")[-1]
    return record, events_pb2.RouteKey.FromString(record.value or b"")


async def test_all_who_ask_get_one_key_that_kafka_has(valkey_url: str) -> None:
    async with ready_cell(valkey_url) as ready:
        processes = [RouteKeys(ready.cell, RECORDS, ready.keyring, SystemClock()) for _ in range(3)]
        got = await asyncio.gather(*(each.get(KEY) for each in processes * 5))
        assert len(set(got)) == 1
        assert [record.key.decode() for record in ready.on("binding.keys.v1")] == [KEY]
        assert got[0].key not in (ready.on("binding.keys.v1")[0].value or b"")
        other = await processes[0].get(route_key_id("didi", TODAY + timedelta(days=1)))
        assert other.key != got[0].key


async def test_a_key_made_by_a_heal_is_asked_for_again(valkey_url: str) -> None:
    """The heal may break off, and the next one knows another key, or none."""
    async with ready_cell(valkey_url) as ready:
        keys = RouteKeys(ready.cell, RECORDS, ready.keyring, SystemClock())
        healed = await keys.get(KEY, b"1")
        await ready.cell.redis.delete(ready.cell.key("key", KEY))
        assert (await keys.get(KEY)).key != healed.key


async def test_a_heal_learns_why_it_gets_no_key(valkey_url: str) -> None:
    async with ready_cell(valkey_url) as ready:
        narrow = Cell(valkey_url, SERVICE, ready.cell.name, LIBRARY, max_outbox=0)
        keys = RouteKeys(narrow, RECORDS, ready.keyring, SystemClock())
        try:
            with pytest.raises(Unavailable, match="OUTBOX_FULL"):
                await keys.get(KEY, b"1")
            with pytest.raises(Unavailable, match="STORE_HEALING"):
                await keys.get(KEY, b"another healer's")
        finally:
            await narrow.close()


async def test_a_key_that_is_over_ends_with_its_wrapping_key_and_never_comes_back(
    valkey_url: str,
) -> None:
    async with ready_cell(valkey_url) as ready:
        # Made while its day lasted, by this process's clock; ended by both clocks.
        early = keys_of(ready, now=TODAY - timedelta(days=2))
        await early.get(OLD)
        record, message = last(ready)
        await keys_of(ready).end(OLD)
        tombstone, _ = last(ready)
        assert (tombstone.value, header_int(tombstone.headers, "ce_axversion")) == (None, 2)
        with pytest.raises(KeyDestroyed):
            ready.keyring.derive(message.wrapped.key_id, b"wrap/v1")
        with pytest.raises(KeyDestroyed):
            await keys_of(ready).get(OLD)
        early.forget_over()
        with pytest.raises(KeyDestroyed):  # a process whose clock is behind cannot make it either
            await keys_of(ready, now=TODAY - timedelta(days=2)).get(OLD)
        # A frozen relay appends the record once more: it is buried again, and no heal revives it.
        assert await ready.rebuild.repair(record)
        await asyncio.wait_for(gone(ready, 3), 10)
        assert last(ready)[0].value is None
        records = [*ready.records, record]
        await ready.wipe()
        await ready.begin(2, records)
        assert not await ready.cell.redis.exists(ready.cell.key("key", OLD))


async def gone(ready: ReadyCell, count: int) -> None:
    while len(ready.on("binding.keys.v1")) < count:
        await asyncio.sleep(0.02)


async def test_a_key_is_not_ended_while_the_store_says_it_is_not_over(valkey_url: str) -> None:
    async with ready_cell(valkey_url) as ready:
        key = await keys_of(ready).get(KEY)
        await keys_of(ready, now=TODAY + timedelta(days=3)).end(KEY)
        assert await keys_of(ready).get(KEY) == key
        assert len(ready.on("binding.keys.v1")) == 1


async def test_another_label_wraps_the_same_key_anew(valkey_url: str) -> None:
    async with ready_cell(valkey_url) as ready:
        key = await keys_of(ready).get(KEY)
        _, before = last(ready)
        assert not await keys_of(ready).rewrap(KEY)
        assert await keys_of(ready, "2").rewrap(KEY)
        record, message = last(ready)
        assert header_int(record.headers, "ce_axversion") == 2
        assert message.previous_wrapping == before.wrapped.key_id
        assert message.wrapped.key_id != before.wrapped.key_id
        assert await keys_of(ready, "2").get(KEY) == key  # opens under either meanwhile
        assert await keys_of(ready, "1").get(KEY) == key
        ready.keyring.destroy(before.wrapped.key_id)
        assert await keys_of(ready, "2").get(KEY) == key
        assert not await keys_of(ready, "2").rewrap(KEY)
        assert not await keys_of(ready, "2").rewrap(OLD)  # there is none
