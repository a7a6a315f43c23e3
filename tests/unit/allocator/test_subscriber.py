"""The sink between the consumer's thread and the fold: repeats, refusals, a store that was lost."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from services.allocator.domain import Block, Policy, Pool, PoolId, RouteChange, RouteState, State
from services.allocator.subscriber import RouteSink, StoreRewound
from services.runtime.cell import unavailable
from services.runtime.clock import ManualClock
from services.runtime.errors import Retry
from services.runtime.metrics import Metrics
from services.runtime.record import Record
from tests.parking import MemoryParking
from tests.unit.allocator.memory import MemoryNumberStore

POOL = PoolId("didi", "city")
NUMBER = "700100000010001"
PLACE = ("binding.routes.v1", 3)


class HealingFold(MemoryNumberStore):
    async def follow(self, items: Any, moved: Any) -> bool:
        raise unavailable("STORE_HEALING")


def item(offset: int, version: int = 1) -> tuple[Record, RouteChange]:
    change = RouteChange(RouteState.ACTIVE, NUMBER, "b1", version)
    return Record(*PLACE, offset, b"", b"", [], 0), change


async def applied(sink: RouteSink, items: Any, moved: Mapping[Any, int]) -> None:
    await asyncio.to_thread(sink.apply, items, moved)


async def test_positions_move_with_the_effects() -> None:
    store = MemoryNumberStore(ManualClock())
    await store.create_pool(Pool(POOL, Policy.EXCLUSIVE, 1000, 1))
    await store.register_block(Block(NUMBER[:11], POOL, 1))
    sink = RouteSink(store, asyncio.get_running_loop(), Metrics("allocator"), MemoryParking())
    assert await asyncio.to_thread(sink.positions) == {}
    await applied(sink, [item(4)], {PLACE: 5})
    assert await store.positions() == {PLACE: 5}
    assert (await store.get_number(NUMBER)).state is State.BOUND
    await applied(sink, [], {PLACE: 9})  # all parked
    assert await store.positions() == {PLACE: 9}


async def test_a_store_that_was_lost_ends_the_reading() -> None:
    loop, metrics = asyncio.get_running_loop(), Metrics("allocator")
    sink = RouteSink(MemoryNumberStore(ManualClock()), loop, metrics, MemoryParking())
    await applied(sink, [], {PLACE: 5})
    sink._fold = MemoryNumberStore(ManualClock())
    with pytest.raises(StoreRewound):
        await applied(sink, [item(5)], {PLACE: 6})


async def test_a_healing_store_is_asked_again() -> None:
    fold = HealingFold(ManualClock())
    sink = RouteSink(fold, asyncio.get_running_loop(), Metrics("allocator"), MemoryParking())
    with pytest.raises(Retry, match="STORE_HEALING"):
        await applied(sink, [item(0)], {PLACE: 1})


async def test_void_positions_are_forgotten_and_what_is_folded_stays() -> None:
    store = MemoryNumberStore(ManualClock())
    await store.create_pool(Pool(POOL, Policy.EXCLUSIVE, 1000, 1))
    await store.register_block(Block(NUMBER[:11], POOL, 1))
    sink = RouteSink(store, asyncio.get_running_loop(), Metrics("allocator"), MemoryParking())
    await applied(sink, [item(4)], {PLACE: 5})
    await asyncio.to_thread(sink.void, {PLACE: "TOPIC_REPLACED"})
    assert await asyncio.to_thread(sink.positions) == {}
    await applied(sink, [item(0)], {PLACE: 1})
    assert (await store.get_number(NUMBER)).pairs == 1


async def test_what_contradicts_a_known_version_is_parked_and_the_rest_is_folded() -> None:
    store, parking = MemoryNumberStore(ManualClock()), MemoryParking()
    await store.create_pool(Pool(POOL, Policy.EXCLUSIVE, 1000, 1))
    await store.register_block(Block(NUMBER[:11], POOL, 1))
    sink = RouteSink(store, asyncio.get_running_loop(), Metrics("allocator"), parking)
    released = RouteChange(RouteState.RELEASED, NUMBER, "b1", 1, cool_until_ms=5)
    other = Record(*PLACE, 1, b"", b"", [], 0)
    items = [item(0), (other, released), item(2, version=2)]
    await applied(sink, items, {PLACE: 3})
    assert parking.parked == [(other, "VERSION_CONTRADICTED")]
    assert await store.positions() == {PLACE: 3}
    assert (await store.get_number(NUMBER)).state is State.BOUND
