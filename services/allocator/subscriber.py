"""The Kafka edge: `binding.routes.v1` into the fold, on a thread of its own.

Refuses to skip: a record is folded, parked, or the process ends. Idempotence key: the binding's
version, and the offset, which moves in the same step. Invariant: if the store was rebuilt behind
this reader's back, it begins again at the positions that the store has.
"""

import asyncio
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final

from services.allocator import messages
from services.allocator.domain import RouteChange
from services.allocator.ports import Contradicted, Position, RouteFold
from services.runtime.consumer import Follower
from services.runtime.errors import Retry, Unavailable, contradicted
from services.runtime.metrics import Metrics, Name
from services.runtime.parking import Parker, Parking
from services.runtime.record import Record
from services.runtime.tasks import ended
from services.runtime.topics import BINDING_ROUTES

_BATCH: Final = 200  # about 2 ms in which the store serves nobody else
_RETRY_SECONDS: Final = 0.5
_GATHER_MS: Final = 100  # binding does not wait for us: a confirmation may be this late


class StoreRewound(Exception):
    """The store stands before what this reader has given it: begin again."""


class RouteSink:
    """A consumer.Sink before a RouteFold that lives on another thread's loop."""

    def __init__(
        self,
        fold: RouteFold,
        loop: asyncio.AbstractEventLoop,
        metrics: Metrics,
        parking: Parking,
    ) -> None:
        self._fold = fold
        self._parking = parking
        self._loop = loop
        self._folded = metrics.counter(Name.ROUTES_FOLDED)
        self._at: dict[Position, int] = {}

    def positions(self) -> Mapping[Position, int]:
        """See Sink."""
        self._at = dict(asyncio.run_coroutine_threadsafe(self._stored(), self._loop).result())
        return self._at

    async def _stored(self) -> Mapping[Position, int]:
        return await self._fold.positions()

    def void(self, positions: Mapping[Position, str]) -> None:
        """See Sink. What is folded stays: reading it again changes nothing, and a number that may
        be in a binding's hands is not given to another."""
        forgetting = self._fold.forget_positions()
        asyncio.run_coroutine_threadsafe(forgetting, self._loop).result()

    def apply(
        self, items: Sequence[tuple[Record, RouteChange]], positions: Mapping[Position, int]
    ) -> None:
        """See Sink. Raises StoreRewound."""
        moved = {p: (self._at.get(p, 0), end) for p, end in positions.items()}
        left = list(items)
        while True:
            changes = [((r.topic, r.partition), r.offset, change) for r, change in left]
            following = self._follow(changes, moved)
            try:
                asyncio.run_coroutine_threadsafe(following, self._loop).result()
                break
            except Contradicted as found:
                for place in sorted(found.places, reverse=True):
                    self._parking.park(left.pop(place)[0], contradicted())
        self._at.update(positions)
        self._folded.inc(len(items))

    async def _follow(self, changes: Any, moved: Any) -> None:
        try:
            if not await self._fold.follow(changes, moved):
                raise StoreRewound
        except Unavailable as why:
            raise Retry(why.reason) from None


class RouteSubscriber:
    """Follows the routes as a member of the group until cancelled."""

    def __init__(self, bootstrap: str, cell: str, fold: RouteFold, metrics: Metrics) -> None:
        self._bootstrap = bootstrap
        # Every cell reads all routes and keeps those of its own blocks, so it is a group each.
        self._group = f"allocator.{BINDING_ROUTES.name}" + ("" if cell == "c0" else f".{cell}")
        self._fold = fold
        self._metrics = metrics

    async def run(self) -> None:
        """Raises what the consumer loop raises: then the process should end."""
        while True:
            try:
                await self._follow()
            except StoreRewound:
                continue
            except Unavailable:  # partitions were given out while the store could not say where to
                await asyncio.sleep(_RETRY_SECONDS)

    async def _follow(self) -> None:
        stop, parker = threading.Event(), Parker(self._bootstrap, self._metrics)
        follower: Follower[RouteChange] = Follower(
            self._bootstrap,
            [BINDING_ROUTES.name],
            messages.route_change,
            RouteSink(self._fold, asyncio.get_running_loop(), self._metrics, parker),
            parker,
            group=self._group,
            batch=_BATCH,
            gather_ms=_GATHER_MS,
        )
        reading = asyncio.create_task(asyncio.to_thread(follower.run, stop))
        try:
            await asyncio.shield(reading)
        finally:
            stop.set()
            # The thread may wait for this loop, so it is awaited and not joined.
            await asyncio.wait([reading])
            await ended([reading])
