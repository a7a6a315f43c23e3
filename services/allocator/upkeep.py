"""The owner's job on pools and blocks: what has drained is retired, how fast pools fill is noted.

Refuses to touch a number. Invariant: whatever it finds is asked of the store again in the step that
acts on it.
"""

import asyncio
import math
from typing import Final

from prometheus_client import Gauge

from services.allocator.domain import PoolId
from services.allocator.ports import Observed
from services.runtime.errors import Unavailable
from services.runtime.metrics import Metrics, Name

_EVERY_SECONDS: Final = 1.0
_OBSERVED_EVERY: Final = 60  # turns
_HOUR_MS: Final = 3_600_000
_OTHERS: Final = "others"  # no pool's path: that has a slash


class Upkeep:
    """Keeps until cancelled; see `run`."""

    def __init__(
        self, catalogue: Observed, metrics: Metrics, every_seconds: float = _EVERY_SECONDS
    ) -> None:
        self._catalogue = catalogue
        self._metrics = metrics
        self._every = every_seconds
        self._gauges = {_OTHERS: metrics.gauge(Name.POOL_HOURS_LEFT, pool=_OTHERS)}

    async def run(self) -> None:
        """Never ends by itself: while the store is away, all waits."""
        turn = 0
        try:
            while True:
                await asyncio.sleep(self._every)
                try:
                    await self._catalogue.retire_drained()
                    if turn % _OBSERVED_EVERY == 0:
                        await self._observe()
                    turn += 1
                except Unavailable:
                    continue
        finally:  # from now on the next owner tells
            for gauge in self._gauges.values():
                gauge.set(math.nan)

    async def _observe(self) -> None:
        hours = dict.fromkeys(self._gauges.values(), math.inf)
        async for pool, found in self._catalogue.observe():
            gauge, left = self._gauge(pool), found.outlook.left_ms
            own = math.inf if left is None else left / _HOUR_MS
            hours[gauge] = min(hours.get(gauge, math.inf), own)
        for gauge, value in hours.items():
            gauge.set(value)

    def _gauge(self, pool: PoolId) -> Gauge:
        """The pool's own; what is a pool too many, or named like a number, goes with the others."""
        if pool.path not in self._gauges:
            try:
                own = self._metrics.gauge(Name.POOL_HOURS_LEFT, pool=pool.path)
            except ValueError:
                own = self._gauges[_OTHERS]
            self._gauges[pool.path] = own
        return self._gauges[pool.path]
