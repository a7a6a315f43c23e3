"""Routes folded into a real Valkey: positions, and tags that leave no trace."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from deploy.local.kafka import quiet_admin
from services.allocator.domain import (
    Policy,
    RouteChange,
    RouteState,
    Wish,
)
from services.allocator.fold import CellRouteFold
from services.allocator.subscriber import RouteSubscriber
from services.runtime.metrics import Metrics
from services.runtime.tasks import ended
from services.runtime.topics import BINDING_ROUTES, ensure
from tests.unit.allocator.cells import (
    POOL,
    ReadyCell,
    make_pool,
    ready_cell,
    store_of,
)

pytestmark = pytest.mark.both_stores

A, B = b"a" * 16, b"b" * 16


@pytest.fixture
async def ready(valkey_url: str) -> AsyncIterator[ReadyCell]:
    async with ready_cell(valkey_url) as made:
        yield made


async def test_tags_leave_no_trace(ready: ReadyCell) -> None:
    store, fold = store_of(ready), CellRouteFold(ready.cell)
    await make_pool(ready, Policy.SHARED)
    lease = (await store.lease(POOL, [Wish((A, B))], 30_000)).given[0]
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


async def test_positions_are_forgotten_and_folded_anew(ready: ReadyCell) -> None:
    fold = CellRouteFold(ready.cell)
    await ready.cell.redis.hset(ready.cell.key("positions"), "verified/allocator.state.v1/0", 9)
    places = [(BINDING_ROUTES.name, partition) for partition in (0, 11)]
    assert await fold.follow([], {places[0]: (0, 3), places[1]: (0, 7)})
    assert await fold.positions() == {places[0]: 3, places[1]: 7}
    assert await fold.follow([], {places[0]: (0, 2)})  # behind: nothing moves back
    assert (await fold.positions())[places[0]] == 3
    await fold.forget_positions()
    assert await fold.positions() == {}
    assert not await fold.follow([], {places[0]: (3, 4)})
    assert await ready.cell.redis.hlen(ready.cell.key("positions")) == 1


async def test_a_healing_store_is_folded_by_its_healer_alone(ready: ReadyCell) -> None:
    place = (BINDING_ROUTES.name, 0)
    assert not await CellRouteFold(ready.cell, b"healing-other").follow([], {place: (0, 1)})
    assert await CellRouteFold(ready.cell, b"1").follow([], {place: (0, 1)})


async def test_partitions_given_out_while_the_store_is_away_are_followed_once_it_is_back(
    ready: ReadyCell, kafka_bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, hgetall = 0, ready.cell.redis.hgetall

    async def away_at_first(key: str) -> Any:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise RedisConnectionError
        return await hgetall(key)

    monkeypatch.setattr(ready.cell.redis, "hgetall", away_at_first)
    ensure(quiet_admin(kafka_bootstrap), 2, topics=[BINDING_ROUTES])
    subscriber = RouteSubscriber(
        kafka_bootstrap, ready.cell.name, CellRouteFold(ready.cell), Metrics("allocator")
    )
    following = asyncio.create_task(subscriber.run())
    async with asyncio.timeout(30):
        while asked < 2 and not following.done():
            await asyncio.sleep(0.05)
    assert not following.done()
    await ended([following])
