"""Ready exactly while the cell is whole."""

import asyncio
from typing import cast

from services.runtime.cell import Cell, unavailable
from services.runtime.readiness import Readiness
from services.runtime.tasks import ended


class StubCell:
    """Answers as told; None: the store is away."""

    def __init__(self) -> None:
        self.whole: bool | None = False
        self.skewed = False

    async def refresh(self) -> bool:
        if self.whole is None:
            raise unavailable("STORE_UNAVAILABLE")
        return self.whole


async def test_readiness_follows_the_cell() -> None:
    stub = StubCell()
    readiness = Readiness(cast(Cell, stub), every_seconds=0.001)
    running = asyncio.create_task(readiness.run())
    for whole, ready in ((False, False), (True, True), (None, False), (True, True)):
        stub.whole = whole
        async with asyncio.timeout(5):
            while readiness.ready is not ready:
                await asyncio.sleep(0.001)
    stub.skewed = True
    async with asyncio.timeout(5):
        while readiness.ready:
            await asyncio.sleep(0.001)
    await ended([running])
