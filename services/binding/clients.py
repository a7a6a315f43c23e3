"""Numbers from allocator over gRPC; implements ports.Numbers.

One call in flight per pool: those who come meanwhile go together in the next, so a hop costs a
share of a call. Refuses to take numbers ahead of need. Invariant: a lease that nobody waits for any
more is given back, or runs out.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import timedelta
from typing import Final, NamedTuple

import grpc
from axbridge.allocator.v1 import allocator_service_pb2 as pb
from axbridge.allocator.v1 import allocator_service_pb2_grpc, number_pb2
from google.rpc import status_pb2

from services.binding.domain import Lease
from services.binding.messages import millis
from services.runtime import selectionwire
from services.runtime.errors import AxbridgeError, NotFound, ResourceExhausted, Unavailable
from services.runtime.selection import ANY, Selection
from services.runtime.server import CHANNEL_OPTIONS
from services.runtime.status import error_from_rpc, error_from_status

_ITEMS: Final = 200  # of one call, allocator's limit
_CALL_SECONDS: Final = 2.0  # two of them fit a caller's 5 s
# Callers answered by one acknowledgement of Kafka come back as a burst; where many went together
# the next ones are awaited this long. Few callers are not held up.
_MANY: Final = 8
_GATHER_SECONDS: Final = 0.003
_REFILL: Final = timedelta(seconds=5)
# Why allocator has no number for an item.
_REFUSALS: Final = {
    "POOL_EXHAUSTED": "no number of the pool can take these parties now",
    "AREA_EXHAUSTED": "no number of these areas can take these parties now",
    "NUMBER_UNAVAILABLE": "the number cannot be given out now",
    "NUMBER_NOT_FOUND": "no registered block holds the number",
    "NUMBER_FOREIGN": "the number belongs to another pool",
}
_MAX_RETURNS: Final = 10_000  # waiting to be given back; beyond it they run out by themselves


class _Wait(NamedTuple):
    item: pb.LeaseItem
    future: asyncio.Future[Lease]


class AllocatorNumbers:
    """A client of allocator. Used from one event loop."""

    def __init__(self, target: str) -> None:
        self._channel = grpc.aio.insecure_channel(target, options=CHANNEL_OPTIONS)
        self._stub = allocator_service_pb2_grpc.AllocatorServiceStub(self._channel)
        self._waiting: dict[str, list[_Wait]] = {}
        self._calling: dict[str, asyncio.Task[None]] = {}
        self._together: dict[str, int] = {}  # how many went in the last call
        self._returns: list[number_pb2.Lease] = []
        self._returning: asyncio.Task[None] | None = None

    async def lease(
        self,
        pool: str,
        tags: Sequence[bytes],
        excluded: Sequence[str],
        seconds: float,
        selection: Selection = ANY,
    ) -> Lease:
        """See ports.Numbers."""
        future: asyncio.Future[Lease] = asyncio.get_running_loop().create_future()
        item = pb.LeaseItem(party_tags=tags, excluded_numbers=excluded)
        if selection != ANY:
            item.selection.CopyFrom(selectionwire.shown(selection))
        self._waiting.setdefault(pool, []).append(_Wait(item, future))
        if pool not in self._calling:
            self._calling[pool] = asyncio.create_task(self._call(pool))
        try:
            async with asyncio.timeout(seconds):
                return await future
        except (TimeoutError, asyncio.CancelledError) as gone:
            # The answer may have come in this very turn of the loop: nobody else has it then.
            if future.done() and not future.cancelled() and future.exception() is None:
                self.give_back(pool, future.result())
            if isinstance(gone, TimeoutError):
                raise _away("DEADLINE_EXCEEDED") from None
            raise

    def give_back(self, pool: str, lease: Lease) -> None:
        """See ports.Numbers."""
        if len(self._returns) < _MAX_RETURNS:
            self._returns.append(number_pb2.Lease(number=lease.number, epoch=lease.epoch))
        if self._returning is None or self._returning.done():
            self._returning = asyncio.create_task(self._return())

    async def close(self) -> None:
        """Ends the connection; what is still to be given back runs out."""
        tasks = [*self._calling.values(), *([self._returning] if self._returning else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._channel.close(None)

    async def _call(self, pool: str) -> None:
        """Leases for all who wait, until nobody does."""
        try:
            while self._waiting.get(pool):
                if self._together.get(pool, 1) >= _MANY:
                    await asyncio.sleep(_GATHER_SECONDS)
                waiting = self._waiting.pop(pool)
                self._together[pool] = len(waiting)
                for start in range(0, len(waiting), _ITEMS):
                    await self._lease(pool, waiting[start : start + _ITEMS])
        finally:
            del self._calling[pool]

    async def _lease(self, pool: str, waits: list[_Wait]) -> None:
        waits = [wait for wait in waits if not wait.future.done()]
        if not waits:
            return
        request = pb.LeaseNumbersRequest(parent=pool, items=[wait.item for wait in waits])
        try:
            # Waits for a connection: an allocator that restarts is back before the time is over.
            response = await self._stub.LeaseNumbers(
                request, timeout=_CALL_SECONDS, wait_for_ready=True
            )
            results = list(response.results)
            if len(results) != len(waits):
                raise _away("INTERNAL")
        except (grpc.RpcError, AxbridgeError) as error:
            refusal = _refusal(error)
            for wait in waits:
                if not wait.future.done():
                    wait.future.set_exception(refusal)
            return
        for wait, result in zip(waits, results, strict=True):
            if not result.HasField("lease"):
                if not wait.future.done():
                    wait.future.set_exception(_refused(result.error))
            elif wait.future.done():  # its caller has gone
                self.give_back(pool, _lease_of(result.lease))
            else:
                wait.future.set_result(_lease_of(result.lease))

    async def _return(self) -> None:
        while self._returns:
            leases, self._returns = self._returns[:_ITEMS], self._returns[_ITEMS:]
            # Those that do not arrive run out at their deadline: that is what it is for.
            with contextlib.suppress(grpc.RpcError):
                await self._stub.ReturnNumbers(
                    pb.ReturnNumbersRequest(leases=leases), timeout=_CALL_SECONDS
                )


def _lease_of(lease: number_pb2.Lease) -> Lease:
    return Lease(
        number=lease.number,
        epoch=lease.epoch,
        deadline_ms=millis(lease.expire_time),
        exclusive=lease.policy == number_pb2.POOL_POLICY_EXCLUSIVE,
        cooling_ms=millis(lease.cooling),
        pair_cooling_ms=millis(lease.pair_cooling),
        sticky=lease.sticky,
    )


def _refusal(error: Exception) -> AxbridgeError:
    """What our caller gets: allocator's answers about the pool as they are, all else as its
    being away, for nothing was bound."""
    ours = error_from_rpc(error) if isinstance(error, grpc.RpcError) else error
    if isinstance(ours, NotFound | ResourceExhausted) and ours.reason.startswith("POOL_"):
        return ours
    if isinstance(ours, Unavailable) and ours.reason == "NEIGHBOUR_UNAVAILABLE":
        return ours
    return _away(ours.reason if isinstance(ours, AxbridgeError) else "UNKNOWN")


def _refused(status: status_pb2.Status) -> AxbridgeError:
    """What our caller gets for its own item: allocator's reason as it is."""
    ours = error_from_status(status)
    if ours.reason not in _REFUSALS:
        return _away(ours.reason)
    wait = _REFILL if isinstance(ours, ResourceExhausted) else None
    return type(ours)(ours.reason, _REFUSALS[ours.reason], retry_after=wait, **ours.metadata)


def _away(cause: str) -> Unavailable:
    return Unavailable(
        "NEIGHBOUR_UNAVAILABLE",
        "allocator gave no number; nothing was bound",
        retry_after=timedelta(seconds=1),
        service="allocator",
        cause=cause,
    )
