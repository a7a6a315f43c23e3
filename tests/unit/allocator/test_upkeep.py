"""The owner's job goes on while the store is away."""

import asyncio
from typing import Any, cast

from services.allocator.ports import Catalogue
from services.allocator.upkeep import Upkeep
from services.runtime.cell import unavailable
from services.runtime.tasks import ended


class StubCatalogue:
    def __init__(self) -> None:
        self.asked = 0

    async def retire_drained(self) -> int:
        self.asked += 1
        if self.asked == 1:
            raise unavailable("STORE_UNAVAILABLE")
        return 0


async def test_it_retires_again_and_again_also_after_the_store_was_away() -> None:
    stub: Any = StubCatalogue()
    running = asyncio.create_task(Upkeep(cast(Catalogue, stub), every_seconds=0.001).run())
    async with asyncio.timeout(20):
        while stub.asked < 3:
            await asyncio.sleep(0.001)
    await ended([running])
