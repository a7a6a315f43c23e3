"""The owner's job goes on while the store is away, and tells how long pools last."""

import asyncio
import math
from collections.abc import AsyncIterator
from typing import Any, cast

from services.allocator.domain import Outlook, PoolId, Statistics
from services.allocator.ports import Observed
from services.allocator.upkeep import Upkeep
from services.runtime.cell import unavailable
from services.runtime.metrics import Metrics
from services.runtime.tasks import ended

HOUR_MS = 3_600_000


class StubCatalogue:
    def __init__(self) -> None:
        self.asked = 0
        self.left: dict[str, int | None] = {}

    async def retire_drained(self) -> int:
        self.asked += 1
        if self.asked == 1:
            raise unavailable("STORE_UNAVAILABLE")
        return 0

    async def observe(self) -> AsyncIterator[tuple[PoolId, Statistics]]:
        for pool, left in self.left.items():
            counts = Statistics(9, 1, 1, 1, 1, 1, 7, outlook=Outlook(1, left))
            yield PoolId("didi", pool), counts


async def test_it_retires_again_and_again_also_after_the_store_was_away() -> None:
    stub: Any = StubCatalogue()
    running = asyncio.create_task(Upkeep(cast(Observed, stub), Metrics("allocator"), 0.001).run())
    async with asyncio.timeout(20):
        while stub.asked < 3:
            await asyncio.sleep(0.001)
    await ended([running])


async def test_hours_left_per_pool_and_of_those_that_can_have_no_label() -> None:
    stub, metrics = StubCatalogue(), Metrics("allocator")
    stub.left = {"a": 2 * HOUR_MS, "b": None, "p13812345678": HOUR_MS, "p13812345679": 3 * HOUR_MS}

    def hours(pool: str) -> float | None:
        return metrics.registry.get_sample_value("allocator_pool_hours_left", {"pool": pool})

    running = asyncio.create_task(Upkeep(cast(Observed, stub), metrics, 0.001).run())
    async with asyncio.timeout(20):
        while hours("didi/a") != 2:
            await asyncio.sleep(0.001)
    assert (hours("didi/b"), hours("others")) == (math.inf, 1)
    await ended([running])
    for pool in ("didi/a", "didi/b", "others"):
        assert math.isnan(hours(pool) or 0), "the next owner tells"
