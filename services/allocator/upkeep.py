"""The owner's job on pools and blocks: what has drained is retired.

Refuses to touch a number. Invariant: whatever it finds is asked of the store again in the step that
acts on it.
"""

import asyncio
from typing import Final

from services.allocator.ports import Catalogue
from services.runtime.errors import Unavailable

_EVERY_SECONDS: Final = 1.0


class Upkeep:
    """Keeps until cancelled; see `run`."""

    def __init__(self, catalogue: Catalogue, every_seconds: float = _EVERY_SECONDS) -> None:
        self._catalogue = catalogue
        self._every = every_seconds

    async def run(self) -> None:
        """Never ends by itself: while the store is away, all waits."""
        while True:
            await asyncio.sleep(self._every)
            try:
                await self._catalogue.retire_drained()
            except Unavailable:
                continue
