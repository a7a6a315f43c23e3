"""Blocks, areas, selection, reserves, imports and lists, over a real channel."""

import time
import uuid
from typing import Any

import grpc
from axbridge.allocator.v1 import allocator_service_pb2 as pb
from axbridge.allocator.v1 import events_pb2, number_pb2
from axbridge.type.v1 import selection_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from services.runtime.status import reason_of
from tests.component.test_allocator import A, B, C, Client, client, valkey

__all__ = ["client", "valkey"]  # fixtures

STRICT = selection_pb2.AREA_MATCH_STRICT
SAME = selection_pb2.STICKINESS_SAME


async def reason(call: Any) -> str | None:
    """The reason that a call is refused with."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return reason_of(error)
    return None


async def ask(client: Client, *tags: bytes, **selection: Any) -> pb.LeaseResult:
    item = pb.LeaseItem(party_tags=tags, selection=selection_pb2.Selection(**selection))
    request = pb.LeaseNumbersRequest(parent=client.pool, items=[item])
    answer: pb.LeaseNumbersResponse = await client.stub.LeaseNumbers(request)
    return answer.results[0]


async def test_selection_by_area_and_by_name(client: Client) -> None:
    await client.make_pool(number_pb2.POOL_POLICY_SHARED)
    block = number_pb2.Block(name="blocks/70012121212", pool=client.pool, area="440300")
    await client.stub.RegisterBlock(pb.RegisterBlockRequest(block=block))
    chosen = (await ask(client, A, B, areas=["440300"], area_match=STRICT)).lease.number
    assert chosen.startswith("70012121212")
    lost = await ask(client, A, B, areas=["110000"], area_match=STRICT)
    assert "AREA_EXHAUSTED" in str(lost.error)
    assert (await ask(client, A, C, number=chosen)).error.code
    other = await ask(client, C, number=chosen)
    assert other.lease.number == chosen
    wrong = number_pb2.Block(name="blocks/70012121213", pool=client.pool, area="44")
    asked = client.stub.RegisterBlock(pb.RegisterBlockRequest(block=wrong))
    assert await reason(asked) == "AREA_INVALID"
    moved = number_pb2.Block(name="blocks/70012121212", pool=client.pool, area="110000")
    asked = client.stub.RegisterBlock(pb.RegisterBlockRequest(block=moved))
    assert await reason(asked) == "BLOCK_EXISTS"


async def test_a_block_is_suspended_resumed_and_retired(client: Client) -> None:
    await client.make_pool(number_pb2.POOL_POLICY_EXCLUSIVE)
    name = f"blocks/{client.block}"
    suspend = pb.SuspendBlockRequest(name=name, reason="complaints")
    assert (await client.stub.SuspendBlock(suspend)).state == number_pb2.BLOCK_STATE_SUSPENDED
    assert "POOL_EXHAUSTED" in str((await client.lease(A, B))[0].error)
    resume = pb.ResumeBlockRequest(name=name, reason="settled")
    assert (await client.stub.ResumeBlock(resume)).state == number_pb2.BLOCK_STATE_ACTIVE
    assert (await client.lease_one(A, B)).number.startswith(client.block)
    retire = pb.RetireBlockRequest(name=name, reason="given back")
    assert (await client.stub.RetireBlock(retire)).state == number_pb2.BLOCK_STATE_RETIRING
    assert await reason(client.stub.ResumeBlock(resume)) == "BLOCK_STATE"
    missing = pb.GetBlockRequest(name="blocks/70099999999")
    assert await reason(client.stub.GetBlock(missing)) == "BLOCK_NOT_FOUND"
    changed = [block.state for block in client.events(events_pb2.BlockChanged, "block")]
    assert changed == [
        number_pb2.BLOCK_STATE_SUSPENDED,
        number_pb2.BLOCK_STATE_ACTIVE,
        number_pb2.BLOCK_STATE_RETIRING,
    ]


async def test_a_reserved_number_is_leased_by_its_name_only(client: Client) -> None:
    await client.make_pool(number_pb2.POOL_POLICY_EXCLUSIVE)
    digits = f"{client.block}0042"
    reserve = pb.ReserveNumberRequest(name=f"numbers/{digits}", reason="hotline")
    found = await client.stub.ReserveNumber(reserve)
    assert found.state == number_pb2.NUMBER_STATE_RESERVED
    leases = await client.lease(count=200)
    assert digits not in {result.lease.number for result in leases}
    assert (await ask(client, A, B, number=digits)).lease.number == digits
    again = await ask(client, A, B, number=digits)
    assert "NUMBER_UNAVAILABLE" in str(again.error)
    history = [each.state for each in (await client.number(digits)).history]
    assert history[-2:] == [number_pb2.NUMBER_STATE_RESERVED, number_pb2.NUMBER_STATE_LEASED]


async def test_numbers_in_use_are_imported_once_and_listed(client: Client) -> None:
    await client.make_pool(number_pb2.POOL_POLICY_EXCLUSIVE)
    until = Timestamp(seconds=int(time.time()) + 86_400)
    items = [
        pb.ImportItem(
            number=f"{client.block}{serial:04d}", import_id=str(uuid.uuid4()),
            party_tags=[A, B], expire_time=until,
        )
        for serial in (7, 8, 9)
    ]  # fmt: skip
    items.append(pb.ImportItem(number="700999999999999", import_id=str(uuid.uuid4()),
                               party_tags=[A, B], expire_time=until))  # fmt: skip

    async def sent() -> list[pb.LeaseResult]:
        async def requests() -> Any:
            for part in (items[:2], items[2:]):
                yield pb.ImportNumbersRequest(parent=client.pool, items=part)

        return [r async for answer in client.stub.ImportNumbers(requests()) for r in answer.results]

    first, again = await sent(), await sent()
    assert [r.lease.number for r in first[:3]] == [item.number for item in items[:3]]
    assert [r.lease.epoch for r in again[:3]] == [r.lease.epoch for r in first[:3]]
    assert first[3].error.code
    request = pb.ListNumbersRequest(parent=client.pool, page_size=2)
    page = await client.stub.ListNumbers(request)
    request.page_token = page.next_page_token
    rest = await client.stub.ListNumbers(request)
    listed = [number.name for number in (*page.numbers, *rest.numbers)]
    assert listed == [f"numbers/{item.number}" for item in items[:3]]
    pools = await client.stub.ListPools(pb.ListPoolsRequest(parent=f"tenants/{client.tenant}"))
    assert [pool.name for pool in pools.pools] == [client.pool]
    blocks = await client.stub.ListBlocks(pb.ListBlocksRequest(parent=client.pool))
    assert [block.name for block in blocks.blocks] == [f"blocks/{client.block}"]


async def test_advice_and_outlook(client: Client) -> None:
    await client.make_pool(number_pb2.POOL_POLICY_SHARED)
    load = pb.AdvisePoolSizeRequest(
        policy=number_pb2.POOL_POLICY_SHARED, orders_per_day=10_000_000,
        life=Duration(seconds=3 * 86_400), cooling=Duration(), most_of_one_party=160_000,
    )  # fmt: skip
    advice = await client.stub.AdvisePoolSize(load)
    assert (advice.blocks, advice.numbers, advice.places) == (16, 160_000, 30_000_000)
    load.orders_per_day = 0
    assert await reason(client.stub.AdvisePoolSize(load)) == "INVALID_FIELD"
    request = pb.GetPoolStatisticsRequest(name=client.pool)
    found = await client.stub.GetPoolStatistics(request)
    assert (found.growth_per_hour, found.HasField("time_left")) == (0, False), "it is too new"
