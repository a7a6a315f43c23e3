"""Whether a service that lives in a cell can do its job: the cell answers and is whole, and their
clocks agree.

Refuses to count neighbours in: without Kafka, reads and leases go on, and writes say when to retry.
Invariant: `ready` is never older than the last answer of the store.
"""

import asyncio
from typing import Final

from services.runtime.cell import Cell
from services.runtime.errors import Unavailable

_EVERY_SECONDS: Final = 0.25


class Readiness:
    """Asks the cell again and again; `ready` is the last answer."""

    def __init__(self, cell: Cell, every_seconds: float = _EVERY_SECONDS) -> None:
        self._cell = cell
        self._every = every_seconds
        self.ready = False

    async def run(self) -> None:
        """Never ends by itself."""
        while True:
            try:
                self.ready = await self._cell.refresh() and not self._cell.skewed
            except Unavailable:
                self.ready = False
            await asyncio.sleep(self._every)
