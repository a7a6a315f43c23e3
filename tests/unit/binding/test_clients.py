"""The client of allocator against a server in this process: shared calls, refusals, returns."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
from axbridge.allocator.v1 import allocator_service_pb2_grpc

from services.binding.clients import AllocatorNumbers
from services.binding.domain import Lease
from services.runtime import selectionwire
from services.runtime.errors import AxbridgeError, Unavailable
from services.runtime.selection import ANY, Selection
from tests.component.binding_world import POOL, StubAllocator, until

TAGS = (b"a" * 16, b"b" * 16)


@pytest.fixture
async def stub() -> AsyncIterator[tuple[StubAllocator, AllocatorNumbers]]:
    allocator, server = StubAllocator(), grpc.aio.server()  # type: ignore[abstract]
    port = server.add_insecure_port("127.0.0.1:0")
    allocator_service_pb2_grpc.add_AllocatorServiceServicer_to_server(allocator, server)
    await server.start()
    numbers = AllocatorNumbers(f"127.0.0.1:{port}")
    yield allocator, numbers
    await numbers.close()
    await server.stop(0)


async def test_those_who_wait_together_go_together(
    stub: tuple[StubAllocator, AllocatorNumbers],
) -> None:
    allocator, numbers = stub
    leases = await asyncio.gather(*(numbers.lease(POOL, TAGS, (), 5) for _ in range(450)))
    assert len({lease.number for lease in leases}) == 450
    assert max(allocator.calls) == 200
    assert sum(allocator.calls) == 450
    assert len(allocator.calls) <= 4


async def test_refusals_keep_their_reason_and_all_else_is_being_away(
    stub: tuple[StubAllocator, AllocatorNumbers],
) -> None:
    allocator, numbers = stub
    with pytest.raises(AxbridgeError, match="POOL_NOT_FOUND"):
        await numbers.lease("tenants/didi/pools/none", TAGS, (), 5)
    allocator.exhausted = True
    with pytest.raises(AxbridgeError, match="POOL_EXHAUSTED"):
        await numbers.lease(POOL, TAGS, (), 5)
    allocator.refusal = "AREA_EXHAUSTED"
    with pytest.raises(AxbridgeError, match="AREA_EXHAUSTED") as refused:
        await numbers.lease(POOL, TAGS, (), 5)
    assert refused.value.retry_after is not None
    assert refused.value.metadata["pool"] == "city"
    allocator.refusal = "SOMETHING_NEW"
    with pytest.raises(Unavailable, match="NEIGHBOUR_UNAVAILABLE"):
        await numbers.lease(POOL, TAGS, (), 5)
    allocator.away = True
    with pytest.raises(Unavailable, match="NEIGHBOUR_UNAVAILABLE") as away:
        await numbers.lease(POOL, TAGS, (), 5)
    assert away.value.retry_after is not None


async def test_what_is_selected_goes_along(stub: tuple[StubAllocator, AllocatorNumbers]) -> None:
    allocator, numbers = stub
    selection = Selection(areas=("440300",), strict=True, sticky=True, random=True)
    await asyncio.gather(
        numbers.lease(POOL, TAGS, (), 5, selection), numbers.lease(POOL, TAGS, (), 5)
    )
    assert [selectionwire.read(each, "") for each in allocator.selected] == [selection, ANY]


async def test_a_lease_nobody_waits_for_is_given_back(
    stub: tuple[StubAllocator, AllocatorNumbers],
) -> None:
    allocator, numbers = stub
    allocator.pause_seconds = 0.3
    gone = asyncio.create_task(numbers.lease(POOL, TAGS, (), 5))
    kept = asyncio.create_task(numbers.lease(POOL, TAGS, (), 5))
    await until(lambda: allocator.asked)
    gone.cancel()
    lease = await kept
    await until(lambda: allocator.returned)
    assert lease.number not in allocator.returned


async def test_out_of_time_is_being_away(stub: tuple[StubAllocator, AllocatorNumbers]) -> None:
    _, numbers = stub
    with pytest.raises(Unavailable, match="NEIGHBOUR_UNAVAILABLE"):
        await numbers.lease(POOL, TAGS, (), 0)


async def test_a_lease_that_comes_as_its_caller_goes_is_given_back(
    stub: tuple[StubAllocator, AllocatorNumbers],
) -> None:
    allocator, numbers = stub
    asking = asyncio.create_task(numbers.lease(POOL, TAGS, (), 5))
    await asyncio.sleep(0)
    lease = Lease("700100000010001", 7, 0, True, 0)
    numbers._waiting[POOL][0].future.set_result(lease)
    asking.cancel()  # in the same turn of the loop, as its time-out may
    await until(lambda: lease.number in allocator.returned)
    assert asking.cancelled()
