"""Leases run out only once the routes are consumed to their ends; outages are sat out."""

import asyncio
from datetime import timedelta

from services.allocator.domain import Block, Policy, Pool, PoolId, State, Wish
from services.allocator.sweeper import LeaseSweeper
from services.runtime.clock import ManualClock
from services.runtime.consumer import Position
from services.runtime.metrics import Metrics
from services.runtime.tasks import ended
from services.runtime.topics import BINDING_ROUTES
from tests.unit.allocator.memory import MemoryNumberStore

POOL = PoolId("didi", "city")


class Sweeper(LeaseSweeper):
    """Ends as the test says."""

    ends: dict[Position, int]

    def _ends(self) -> dict[Position, int]:
        return self.ends


async def test_consumed_to_the_ends_or_not() -> None:
    clock = ManualClock()
    store = MemoryNumberStore(clock)
    await store.create_pool(Pool(POOL, Policy.EXCLUSIVE, 60_000, 1))
    await store.register_block(Block("70010000001", POOL, 1))
    (lease,) = (await store.lease(POOL, [Wish()], 1000)).given
    assert lease
    clock.advance(timedelta(seconds=5))
    metrics = Metrics("allocator")
    sweeper = Sweeper(store, store, "127.0.0.1:1", 2, metrics, every_seconds=0.001)
    sweeper.ends = {(BINDING_ROUTES.name, 0): 0, (BINDING_ROUTES.name, 1): 4}
    running = asyncio.create_task(sweeper.run())
    await asyncio.sleep(0.05)
    assert (await store.get_number(lease.number)).state is State.LEASED
    await store.follow([], {(BINDING_ROUTES.name, 1): (0, 4)})
    async with asyncio.timeout(5):
        while (await store.get_number(lease.number)).state is not State.COOLING:
            await asyncio.sleep(0.002)
    await ended([running])
    assert metrics.registry.get_sample_value("allocator_leases_ran_out_total") == 1
