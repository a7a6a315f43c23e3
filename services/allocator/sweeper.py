"""The owner's job: leases that ran out go to cooling.

Refuses to act on what may only look like running out: first everything that Kafka has of
`binding.routes.v1` must be folded, by whichever process. Invariant: the ends are asked for after
the leases were found due, and the positions after the ends.
"""

import asyncio
from typing import Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from services.allocator.handlers import expire_leases
from services.allocator.ports import LeaseExpiry, RouteFold
from services.runtime.errors import Unavailable
from services.runtime.metrics import Metrics, Name
from services.runtime.placement import Position, end_offsets
from services.runtime.topics import BINDING_ROUTES

_EVERY_SECONDS: Final = 1.0


class LeaseSweeper:
    """Expires leases until cancelled; see `run`."""

    def __init__(
        self,
        store: LeaseExpiry,
        fold: RouteFold,
        bootstrap: str,
        partitions: int,
        metrics: Metrics,
        every_seconds: float = _EVERY_SECONDS,
    ) -> None:
        self._every = every_seconds
        self._store = store
        self._fold = fold
        self._admin = AdminClient({"bootstrap.servers": bootstrap})
        self._partitions = partitions
        self._ran_out = metrics.counter(Name.LEASES_RAN_OUT)

    async def run(self) -> None:
        """Never ends by itself: while store or Kafka are away, leases just rest unexpired."""
        while True:
            await asyncio.sleep(self._every)
            try:
                self._ran_out.inc(await expire_leases(self._store, self._caught_up))
            except (Unavailable, KafkaException):
                continue

    async def _caught_up(self) -> bool:
        ends = await asyncio.to_thread(self._ends)
        positions = await self._fold.positions()
        return all(positions.get(place, 0) >= end for place, end in ends.items())

    def _ends(self) -> dict[Position, int]:
        return end_offsets(
            self._admin, [(BINDING_ROUTES.name, place) for place in range(self._partitions)]
        )
