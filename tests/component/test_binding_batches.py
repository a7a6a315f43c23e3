"""Batches, the release of an order, and streams, over gRPC on real brokers."""

import asyncio
import itertools
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from axbridge.allocator.v1 import number_pb2
from axbridge.binding.v1 import binding_pb2
from axbridge.binding.v1 import binding_service_pb2 as pb
from axbridge.type.v1.phone_number_pb2 import PhoneNumber
from google.rpc import error_details_pb2

from tests.component.binding_world import POOL, TENANT, C, World, ahead, refusal, until, world
from tests.component.test_binding_service import bad, published

RELEASED = binding_pb2.BINDING_STATE_RELEASED
MOBILES = (f"+86138{at:08d}" for at in itertools.count(1))


@pytest.fixture
async def w(kafka_bootstrap: str, valkey_url: str, tmp_path: Path) -> AsyncIterator[World]:
    async with world(kafka_bootstrap, valkey_url, tmp_path) as made:
        yield made


def good(w: World, **fields: Any) -> Any:
    numbers = {name: PhoneNumber(e164=next(MOBILES)) for name in ("number_a", "number_b")}
    return w.request(**(numbers | fields))


def reason(result: Any) -> str:
    """What an item was refused with; OK where it was not."""
    if result.HasField("binding"):
        return "OK"
    info = error_details_pb2.ErrorInfo()
    assert result.error.details[0].Unpack(info)
    return str(info.reason)


async def create(w: World, requests: list[Any]) -> list[Any]:
    request = pb.BatchCreateBindingsRequest(parent=TENANT, requests=requests)
    return list((await w.stub.BatchCreateBindings(request, timeout=60)).results)


async def release(w: World, requests: list[Any]) -> list[Any]:
    request = pb.BatchReleaseBindingsRequest(parent=TENANT, requests=requests)
    return list((await w.stub.BatchReleaseBindings(request, timeout=60)).results)


def options() -> dict[str, tuple[binding_pb2.BindingOptions, str]]:
    """Options that are refused, and how."""
    start, zone, window = (binding_pb2.BindingOptions() for _ in range(3))
    start.start_time.CopyFrom(ahead(7200))
    zone.windows.add(start_minute=1, end_minute=2)
    window.windows.add(start_minute=1, end_minute=1)
    window.time_zone = "Asia/Shanghai"
    silent = binding_pb2.BindingOptions(recording=binding_pb2.RecordingOption())
    code = binding_pb2.BindingOptions(ended_announcement="Not a code")
    return {
        "start": (start, "START_AFTER_END"),
        "zone": (zone, "TIME_ZONE_UNKNOWN"),
        "window": (window, "WINDOW_INVALID"),
        "silent": (silent, "RECORDING_UNANNOUNCED"),
        "code": (code, "ANNOUNCEMENT_INVALID"),
    }


async def test_a_thousand_creates_with_every_kind_of_refusal_among_them(w: World) -> None:
    known = await w.create()
    reused = w.request(request_id=str(uuid.uuid4()))
    await w.stub.CreateBinding(reused, timeout=10)
    reused.number_a.e164 = C
    refused = [(w.request(**fields), wanted) for fields, wanted in bad().values()]
    refused += [(good(w, options=each), wanted) for each, wanted in options().values()]
    refused += [(good(w, pool=f"{TENANT}/pools/none"), "POOL_NOT_FOUND")]
    refused += [(reused, "REQUEST_ID_REUSED")]
    requests, wanted = [], []
    for at in range(1000):
        if at % 3 == 0:
            request, outcome = refused[at // 3 % len(refused)]
        else:
            request, outcome = good(w), "OK"
        requests.append(request)
        wanted.append(outcome)
    results = await create(w, requests)
    assert [reason(each) for each in results] == wanted
    made = [each.binding for each in results if each.HasField("binding")]
    assert len({each.name for each in made}) == len({each.number for each in made}) == 666
    assert known.number not in {each.number for each in made}
    assert [each.order_id for each in made] == ["order-1"] * 666
    assert max(w.allocator.calls) <= 200
    assert len(w.allocator.calls) < 30
    assert len(published(w, "binding.bindings.v1")) == 668
    again = await create(w, requests)
    assert [each.name for each in again] == [each.name for each in results]
    assert [reason(each) for each in again] == wanted
    assert len(published(w, "binding.bindings.v1")) == 668


async def test_where_a_pool_runs_dry_the_others_are_bound(w: World) -> None:
    w.allocator.exhausted = True
    assert {reason(e) for e in await create(w, [good(w), good(w)])} == {"POOL_EXHAUSTED"}
    w.allocator.exhausted, w.allocator.away = False, True
    results = await create(w, [good(w), good(w, order_id="")])
    assert [reason(each) for each in results] == ["NEIGHBOUR_UNAVAILABLE", "INVALID_FIELD"]
    assert results[0].error.code == grpc.StatusCode.UNAVAILABLE.value[0]
    assert len(results[0].error.details) == 2  # when to retry
    assert published(w, "binding.bindings.v1") == []


async def test_on_a_shared_number_items_refuse_each_other_as_single_ones_do(w: World) -> None:
    w.allocator.policy = number_pb2.POOL_POLICY_SHARED
    same = PhoneNumber(e164=next(MOBILES))
    stranger = binding_pb2.BindingOptions(
        unknown_caller=binding_pb2.UNKNOWN_CALLER_POLICY_REFUSE, unknown_caller_announcement="no"
    )
    number = "700199900000001"
    w.allocator.next = [number] * 6
    requests = [*(good(w, number_a=same) for _ in range(3)), good(w, options=stranger)]
    results = await create(w, requests)
    assert [reason(each) for each in results] == [*["OK"] * 3, "OPTION_NEEDS_EXCLUSIVE"]
    numbers = [each.binding.number for each in results[:3]]
    assert sorted(each == f"numbers/{number}" for each in numbers) == [False, False, True]


async def test_updates_and_releases_in_batches(w: World) -> None:
    made = [each.binding for each in await create(w, [good(w) for _ in range(40)])]
    updates = [
        pb.UpdateBindingRequest(
            name=each.name, request_id=str(uuid.uuid4()), version=1 + (at == 7),
            expire_time=ahead(-1 if at == 8 else 86400),
        )
        for at, each in enumerate(made)
    ]  # fmt: skip
    request = pb.BatchUpdateBindingsRequest(parent=TENANT, requests=updates)
    results = list((await w.stub.BatchUpdateBindings(request, timeout=60)).results)
    assert [reason(each) for each in results[6:10]] == ["OK", "VERSION_STALE", "EXPIRY_PAST", "OK"]
    assert [each.name for each in results] == [each.name for each in made]
    assert (await w.stub.BatchUpdateBindings(request, timeout=60)).results == results
    foreign = made[3].name.replace(TENANT, "tenants/other")
    ends = [pb.ReleaseBindingRequest(name=each.name) for each in made[:20]]
    ends += [pb.ReleaseBindingRequest(name=made[20].name, version=9)]
    ends += [pb.ReleaseBindingRequest(name=foreign), pb.ReleaseBindingRequest(name="x")]
    released = await release(w, [*ends, ends[0]])
    assert [reason(each) for each in released[20:]] == [
        "VERSION_STALE", "INVALID_FIELD", "INVALID_FIELD", "OK"
    ]  # fmt: skip
    assert released[0] == released[-1]
    assert {each.binding.state for each in released[:20]} == {RELEASED}
    assert (await w.get(made[20].name)).state != RELEASED


async def test_a_whole_batch_is_refused_only_where_nothing_was_done(w: World) -> None:
    wrong: dict[str, list[tuple[Any, str]]] = {
        "BatchCreateBindings": [
            (pb.BatchCreateBindingsRequest(parent=TENANT), "BATCH_SIZE_INVALID"),
            (pb.BatchCreateBindingsRequest(requests=[good(w)]), "INVALID_FIELD"),
        ],
        "BatchReleaseBindings": [
            (
                pb.BatchReleaseBindingsRequest(
                    parent=TENANT, requests=[pb.ReleaseBindingRequest()] * 1001
                ),
                "BATCH_SIZE_INVALID",
            )
        ],
        "ReleaseOrder": [(pb.ReleaseOrderRequest(parent=TENANT), "INVALID_FIELD")],
    }
    for rpc, cases in wrong.items():
        for request, outcome in cases:
            call = getattr(w.stub, rpc)(request, timeout=10)
            assert await refusal(call) == f"INVALID_ARGUMENT {outcome}"
    assert w.allocator.calls == []


async def test_an_order_is_released_without_others_on_its_numbers(w: World) -> None:
    w.allocator.policy = number_pb2.POOL_POLICY_SHARED
    w.allocator.next = ["700199900000002"] * 8
    orders = [f"order-{at % 2}" for at in range(8)]
    made = [each.binding for each in await create(w, [good(w, order_id=o) for o in orders])]
    request = pb.ReleaseOrderRequest(parent=TENANT, order_id="order-1", page_size=3)
    first = await w.stub.ReleaseOrder(request, timeout=20)
    request.page_token = first.next_page_token
    rest = await w.stub.ReleaseOrder(request, timeout=20)
    assert rest.next_page_token == ""
    ended = [each.name for each in (*first.results, *rest.results)]
    assert sorted(ended) == sorted(made[at].name for at in range(1, 8, 2))
    assert all(each.binding.state == RELEASED for each in (*first.results, *rest.results))
    for each in made[::2]:
        assert (await w.get(each.name)).state != RELEASED
    assert len((await w.list(number=made[0].number)).bindings) == 8


async def test_a_stream_answers_each_item_under_its_number(w: World) -> None:
    requests = [pb.StreamItem(sequence=at, create=good(w)) for at in range(2500)]
    requests[11].create.order_id = ""

    async def messages() -> AsyncIterator[pb.StreamBindingsRequest]:
        for start in range(0, 2500, 250):
            yield pb.StreamBindingsRequest(items=requests[start : start + 250])

    found = {
        each.sequence: each.result
        async for answer in w.stub.StreamBindings(messages(), timeout=60)
        for each in answer.results
    }
    assert sorted(found) == list(range(2500))
    assert {at for at, each in found.items() if reason(each) != "OK"} == {11}

    async def ends() -> AsyncIterator[pb.StreamBindingsRequest]:
        yield pb.StreamBindingsRequest(
            items=[
                pb.StreamItem(sequence=1, release=pb.ReleaseBindingRequest(name=found[1].name)),
                pb.StreamItem(sequence=2, create=requests[2].create),
                pb.StreamItem(sequence=3),
            ]
        )
        yield pb.StreamBindingsRequest()

    call = w.stub.StreamBindings(ends(), timeout=60)
    [answer] = [await call.read()]
    first, second, third = (each.result for each in answer.results)
    assert (first.binding.state, second.binding) == (RELEASED, found[2].binding)
    assert (third.name, reason(third)) == ("", "INVALID_FIELD")
    assert await refusal(call.read()) == "INVALID_ARGUMENT BATCH_SIZE_INVALID"


async def test_a_stream_that_broke_is_sent_again(w: World) -> None:
    items = [pb.StreamItem(sequence=at, create=good(w)) for at in range(600)]
    more = asyncio.Event()

    async def messages() -> AsyncIterator[pb.StreamBindingsRequest]:
        for start in range(0, 600, 100):
            yield pb.StreamBindingsRequest(items=items[start : start + 100])
        await more.wait()

    broken = w.stub.StreamBindings(messages(), timeout=60)
    kept = (await broken.read()).results
    broken.cancel()
    more.set()
    found = {
        each.sequence: each.result
        async for answer in w.stub.StreamBindings(messages(), timeout=60)
        for each in answer.results
    }
    assert len({each.binding.name for each in found.values()}) == 600
    for each in kept:
        assert found[each.sequence] == each.result
    events = published(w, "binding.bindings.v1")
    assert len(events) == 600
    assert (await w.create()).pool == POOL


async def test_who_does_not_read_is_not_read_from(w: World) -> None:
    """Backpressure: without a reader the service stops at what it may have under way."""
    sent = 0

    async def messages() -> AsyncIterator[pb.StreamBindingsRequest]:
        nonlocal sent
        while True:
            sent += 500
            refused = pb.StreamItem(release=pb.ReleaseBindingRequest(name="x" * 200))
            yield pb.StreamBindingsRequest(items=[refused] * 500)

    call = w.stub.StreamBindings(messages(), timeout=60)
    before = -1

    def stands() -> bool:
        nonlocal before
        stood, before = before == sent, sent
        return stood

    async with asyncio.timeout(50):
        while not stands():
            await asyncio.sleep(1)
    assert sent < 100_000
    call.cancel()
    await until(lambda: call.done())
