"""The gRPC edge: parse, call, render. Refuses to decide anything.

Invariant: an answer to CreatePool, RegisterBlock, LockNumber or UnlockNumber is in Kafka when it
leaves. LeaseNumbers and ReturnNumbers do not wait: binding is the authority, so a lease that is
lost with the store is harmless (its binding stands by itself, or is refused), and the caller gets
its number in the time of one store round trip.
"""

from typing import Any

from axbridge.allocator.v1 import allocator_service_pb2 as pb
from axbridge.allocator.v1 import allocator_service_pb2_grpc as pb_grpc
from axbridge.allocator.v1 import number_pb2

from services.allocator import translate
from services.allocator.domain import number_digits, pool_id
from services.allocator.handlers import Allocator
from services.runtime.clock import Clock
from services.runtime.metrics import Metrics, Name


class AllocatorServicer(pb_grpc.AllocatorServiceServicer):
    """Answers AllocatorService."""

    def __init__(self, allocator: Allocator, clock: Clock, metrics: Metrics) -> None:
        self._allocator = allocator
        self._clock = clock
        self._leased = metrics.counter(Name.LEASES, outcome="leased")
        self._exhausted = metrics.counter(Name.LEASES, outcome="exhausted")

    async def CreatePool(self, request: pb.CreatePoolRequest, context: Any) -> number_pb2.Pool:
        pool = translate.pool_in(request.pool, self._clock.epoch_ms())
        return translate.pool_out(await self._allocator.create_pool(pool))

    async def GetPool(self, request: pb.GetPoolRequest, context: Any) -> number_pb2.Pool:
        return translate.pool_out(await self._allocator.get_pool(pool_id(request.name)))

    async def RegisterBlock(
        self, request: pb.RegisterBlockRequest, context: Any
    ) -> number_pb2.Block:
        block = translate.block_in(request.block, self._clock.epoch_ms())
        return translate.block_out(await self._allocator.register_block(block))

    async def GetNumber(self, request: pb.GetNumberRequest, context: Any) -> number_pb2.Number:
        return translate.number_out(await self._allocator.get_number(number_digits(request.name)))

    async def LeaseNumbers(
        self, request: pb.LeaseNumbersRequest, context: Any
    ) -> pb.LeaseNumbersResponse:
        leased = await self._allocator.lease(*translate.wishes_in(request))
        missing = leased.leases.count(None)
        self._leased.inc(len(leased.leases) - missing)
        self._exhausted.inc(missing)
        return translate.leased_out(leased)

    async def ReturnNumbers(
        self, request: pb.ReturnNumbersRequest, context: Any
    ) -> pb.ReturnNumbersResponse:
        leases = translate.leases_in(request.leases)
        return pb.ReturnNumbersResponse(returned=await self._allocator.return_leases(leases))

    async def LockNumber(self, request: pb.LockNumberRequest, context: Any) -> number_pb2.Number:
        number, reason = number_digits(request.name), translate.reason_in(request.reason)
        return translate.number_out(await self._allocator.lock(number, reason))

    async def UnlockNumber(
        self, request: pb.UnlockNumberRequest, context: Any
    ) -> number_pb2.Number:
        number, reason = number_digits(request.name), translate.reason_in(request.reason)
        return translate.number_out(await self._allocator.unlock(number, reason))

    async def GetPoolStatistics(
        self, request: pb.GetPoolStatisticsRequest, context: Any
    ) -> number_pb2.PoolStatistics:
        found = await self._allocator.statistics(pool_id(request.name))
        return translate.statistics_out(found)
