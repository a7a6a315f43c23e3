"""The gRPC edge: parse, call, render. Refuses to decide anything.

Invariant: an answer to a write other than LeaseNumbers and ReturnNumbers is in Kafka when it
leaves. LeaseNumbers and ReturnNumbers do not wait: binding is the authority, so a lease that is
lost with the store is harmless (its binding stands by itself, or is refused), and the caller gets
its number in the time of one store round trip.
"""

from collections.abc import AsyncIterator
from typing import Any

from axbridge.allocator.v1 import allocator_service_pb2 as pb
from axbridge.allocator.v1 import allocator_service_pb2_grpc as pb_grpc
from axbridge.allocator.v1 import number_pb2

from services.allocator import figures, messages, names, translate
from services.allocator.domain import BlockState, Mark
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
        return messages.pool_out(await self._allocator.create_pool(pool))

    async def GetPool(self, request: pb.GetPoolRequest, context: Any) -> number_pb2.Pool:
        return messages.pool_out(await self._allocator.get_pool(names.pool_id(request.name)))

    async def ListPools(self, request: pb.ListPoolsRequest, context: Any) -> pb.ListPoolsResponse:
        tenant, of = names.tenant_name(request.parent), f"pools\x1f{request.parent}"
        limit, after = translate.page_in(request.page_size, request.page_token, of)
        pools, last = await self._allocator.list_pools(tenant, after, limit)
        return pb.ListPoolsResponse(
            pools=map(messages.pool_out, pools), next_page_token=translate.page_token(of, last)
        )

    async def RegisterBlock(
        self, request: pb.RegisterBlockRequest, context: Any
    ) -> number_pb2.Block:
        block = translate.block_in(request.block, self._clock.epoch_ms())
        return messages.block_out(await self._allocator.register_block(block))

    async def GetBlock(self, request: pb.GetBlockRequest, context: Any) -> number_pb2.Block:
        block = await self._allocator.get_block(names.block_digits(request.name))
        return messages.block_out(block)

    async def ListBlocks(
        self, request: pb.ListBlocksRequest, context: Any
    ) -> pb.ListBlocksResponse:
        pool, of = names.pool_id(request.parent, "parent"), f"blocks\x1f{request.parent}"
        limit, after = translate.page_in(request.page_size, request.page_token, of)
        blocks, last = await self._allocator.list_blocks(pool, after, limit)
        return pb.ListBlocksResponse(
            blocks=map(messages.block_out, blocks), next_page_token=translate.page_token(of, last)
        )

    async def SuspendBlock(self, request: pb.SuspendBlockRequest, context: Any) -> number_pb2.Block:
        return await self._change(request, BlockState.SUSPENDED)

    async def ResumeBlock(self, request: pb.ResumeBlockRequest, context: Any) -> number_pb2.Block:
        return await self._change(request, BlockState.ACTIVE)

    async def RetireBlock(self, request: pb.RetireBlockRequest, context: Any) -> number_pb2.Block:
        return await self._change(request, BlockState.RETIRING)

    async def _change(self, request: Any, wanted: BlockState) -> number_pb2.Block:
        block, reason = names.block_digits(request.name), translate.reason_in(request.reason)
        return messages.block_out(await self._allocator.change_block(block, wanted, reason))

    async def GetNumber(self, request: pb.GetNumberRequest, context: Any) -> number_pb2.Number:
        number = await self._allocator.get_number(names.number_digits(request.name))
        return messages.number_out(number)

    async def ListNumbers(
        self, request: pb.ListNumbersRequest, context: Any
    ) -> pb.ListNumbersResponse:
        pool, state = names.pool_id(request.parent, "parent"), translate.state_in(request.state)
        of = f"numbers\x1f{request.parent}\x1f{request.state}"
        limit, after = translate.page_in(request.page_size, request.page_token, of)
        numbers, last = await self._allocator.list_numbers(pool, after, limit, state)
        return pb.ListNumbersResponse(
            numbers=map(messages.number_out, numbers),
            next_page_token=translate.page_token(of, last),
        )

    async def LeaseNumbers(
        self, request: pb.LeaseNumbersRequest, context: Any
    ) -> pb.LeaseNumbersResponse:
        leased = await self._allocator.lease(*translate.wishes_in(request))
        given = len(leased.given)
        self._leased.inc(given)
        self._exhausted.inc(len(leased.leases) - given)
        return translate.leased_out(leased)

    async def ImportNumbers(
        self, requests: AsyncIterator[pb.ImportNumbersRequest], context: Any
    ) -> AsyncIterator[pb.ImportNumbersResponse]:
        # One request at a time: a caller that sends faster is held up by the stream itself.
        async for request in requests:
            wanted = translate.imports_in(request, self._clock.epoch_ms())
            results = translate.results_out(await self._allocator.import_numbers(*wanted))
            yield pb.ImportNumbersResponse(results=results)

    async def ReturnNumbers(
        self, request: pb.ReturnNumbersRequest, context: Any
    ) -> pb.ReturnNumbersResponse:
        leases = translate.leases_in(request.leases)
        return pb.ReturnNumbersResponse(returned=await self._allocator.return_leases(leases))

    async def LockNumber(self, request: pb.LockNumberRequest, context: Any) -> number_pb2.Number:
        return await self._mark(request, Mark.LOCK, True)

    async def UnlockNumber(
        self, request: pb.UnlockNumberRequest, context: Any
    ) -> number_pb2.Number:
        return await self._mark(request, Mark.LOCK, False)

    async def ReserveNumber(
        self, request: pb.ReserveNumberRequest, context: Any
    ) -> number_pb2.Number:
        return await self._mark(request, Mark.RESERVE, True)

    async def UnreserveNumber(
        self, request: pb.UnreserveNumberRequest, context: Any
    ) -> number_pb2.Number:
        return await self._mark(request, Mark.RESERVE, False)

    async def _mark(self, request: Any, mark: Mark, on: bool) -> number_pb2.Number:
        number, reason = names.number_digits(request.name), translate.reason_in(request.reason)
        return messages.number_out(await self._allocator.mark(number, mark, on, reason))

    async def GetPoolStatistics(
        self, request: pb.GetPoolStatisticsRequest, context: Any
    ) -> number_pb2.PoolStatistics:
        found = await self._allocator.statistics(names.pool_id(request.name))
        return figures.statistics_out(found)

    async def AdvisePoolSize(
        self, request: pb.AdvisePoolSizeRequest, context: Any
    ) -> number_pb2.PoolAdvice:
        return figures.advice_out(self._allocator.advise(figures.load_in(request)))
