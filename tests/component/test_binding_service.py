"""The binding service over gRPC, on real brokers, with allocator stood in for."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from axbridge.allocator.v1 import number_pb2
from axbridge.binding.v1 import binding_pb2, binding_service_pb2, events_pb2
from axbridge.type.v1.phone_number_pb2 import PhoneNumber

from deploy.local.compaction import contents
from tests.component.binding_world import (
    POOL,
    TENANT,
    A,
    B,
    C,
    D,
    World,
    ahead,
    refusal,
    until,
    world,
)

RELEASED = binding_pb2.BINDING_STATE_RELEASED


@pytest.fixture
async def w(kafka_bootstrap: str, valkey_url: str, tmp_path: Path) -> AsyncIterator[World]:
    async with world(kafka_bootstrap, valkey_url, tmp_path) as made:
        yield made


def published(w: World, topic: str) -> list[Any]:
    """What this cell has put on a topic, cell records left out."""
    source = f"/axbridge/binding/{w.settings.cell}".encode()
    return [
        record
        for record in contents(w.bootstrap, topic)
        if ("ce_source", source) in record.headers and not (record.key or b"").startswith(b"cell/")
    ]


def phone(text: str) -> PhoneNumber:
    return PhoneNumber(e164=text)


async def test_a_binding_is_created_read_and_listed(w: World) -> None:
    made = await w.create()
    assert made.number.startswith("numbers/700")
    assert (made.version, made.order_id, made.customer_data) == (1, "order-1", b"opaque")
    assert await w.get(made.name) == made
    for found in (
        await w.list(order_id="order-1"),
        await w.list(number=made.number),
        await w.list(party=phone(A)),
        await w.list(party=phone(B)),
    ):
        assert list(found.bindings) == [made]
    assert not (await w.list(party=phone(C))).bindings
    assert not (await w.list(order_id="order-2")).bindings


async def test_events_state_and_route_are_published_and_hold_no_number(w: World) -> None:
    made = await w.create()
    binding, number = made.name.rsplit("/", 1)[1], made.number.split("/")[1]
    await w.release(made.name)
    events = published(w, "binding.bindings.v1")
    published_routes = published(w, "binding.routes.v1")
    others = [*published(w, "binding.state.v1"), *published(w, "binding.keys.v1")]
    records = [*events, *published_routes, *others]
    assert len(records) == 7
    for record in records:
        text = record.key + (record.value or b"") + repr(record.headers).encode()
        assert A[3:].encode() not in text
        assert b"order-1" not in text
    assert [dict(r.headers)["ce_id"] for r in events] == [
        f"{binding}-{version}".encode() for version in (1, 2)
    ]
    assert {r.key for r in events} == {f"{number}/{binding}".encode()}
    routes = [events_pb2.Route.FromString(r.value) for r in published_routes]
    assert [route.version for route in routes] == [1, 2]
    assert routes[0].callee_a.box
    assert routes[0].tag_a
    assert not routes[1].callee_a.box
    assert routes[1].tag_a == routes[0].tag_a
    assert routes[1].cool_until.seconds == pytest.approx(
        routes[1].expire_time.seconds - 3600 + 60, abs=5
    )


def bad() -> dict[str, tuple[dict[str, Any], str]]:
    """Made when it is used, for the times are counted from then."""
    return {
        "request_id": ({"request_id": "1"}, "REQUEST_ID_INVALID"),
        "parent": ({"parent": "tenants/"}, "INVALID_FIELD"),
        "pool": ({"pool": "tenants/other/pools/city"}, "INVALID_FIELD"),
        "malformed": ({"number_a": PhoneNumber(e164="12")}, "PARTY_NUMBER_INVALID"),
        "absent": ({"number_a": None}, "PARTY_NUMBER_INVALID"),
        "foreign": ({"number_b": PhoneNumber(e164="+85251234567")}, "PARTY_NUMBER_NOT_MAINLAND"),
        "middle": ({"number_b": PhoneNumber(e164="700100000010001")}, "PARTY_NUMBER_IS_MIDDLE"),
        "equal": ({"number_b": PhoneNumber(e164=A[3:])}, "PARTIES_EQUAL"),
        "past": ({"expire_time": ahead(-5)}, "EXPIRY_PAST"),
        "soon": ({"expire_time": ahead(30)}, "EXPIRY_TOO_SOON"),
        "far": ({"expire_time": ahead(400 * 86400)}, "EXPIRY_TOO_FAR"),
        "no expiry": ({"expire_time": None}, "INVALID_FIELD"),
        "order": ({"order_id": ""}, "INVALID_FIELD"),
        "long order": ({"order_id": "x" * 65}, "INVALID_FIELD"),
        "industry": ({"industry_id": "a b"}, "INVALID_FIELD"),
        "minutes": ({"max_call_minutes": 1441}, "INVALID_FIELD"),
        "data": ({"customer_data": b"x" * 513}, "INVALID_FIELD"),
        "direction": ({"direction": 9}, "INVALID_FIELD"),
    }


async def test_bad_input_has_its_own_reason_and_no_effect(w: World) -> None:
    cases = bad()
    got = {name: await refusal(w.create(**fields)) for name, (fields, _) in cases.items()}
    assert got == {name: f"INVALID_ARGUMENT {reason}" for name, (_, reason) in cases.items()}
    assert w.allocator.calls == []
    assert published(w, "binding.bindings.v1") == []


async def test_what_allocator_refuses_has_its_own_reason(w: World) -> None:
    unknown = w.create(pool=f"{TENANT}/pools/none")
    assert await refusal(unknown) == "NOT_FOUND POOL_NOT_FOUND"
    w.allocator.exhausted = True
    assert await refusal(w.create()) == "RESOURCE_EXHAUSTED POOL_EXHAUSTED"
    w.allocator.away = True
    assert await refusal(w.create()) == "UNAVAILABLE NEIGHBOUR_UNAVAILABLE"
    assert published(w, "binding.bindings.v1") == []


async def test_a_request_id_has_one_effect(w: World) -> None:
    identity, expiry = str(uuid.uuid4()), ahead(3600)
    first = await w.create(request_id=identity, expire_time=expiry)
    w.allocator.away = True  # a repetition does not need it
    again = await w.create(
        request_id=identity.upper(), expire_time=expiry, number_a=phone("135 1234 5678")
    )
    assert again == first
    other = w.create(request_id=identity, expire_time=expiry, number_b=phone(C))
    assert await refusal(other) == "ALREADY_EXISTS REQUEST_ID_REUSED"
    assert len(published(w, "binding.bindings.v1")) == 1


async def test_concurrent_twins_get_one_binding_and_return_the_other_numbers(w: World) -> None:
    request = w.request()
    made = await asyncio.gather(*(w.stub.CreateBinding(request, timeout=10) for _ in range(8)))
    assert len({binding.name for binding in made}) == 1
    leased = sum(w.allocator.calls)
    await until(lambda: len(w.allocator.returned) == leased - 1)
    assert made[0].number.split("/")[1] not in w.allocator.returned


async def test_concurrent_creates_share_calls_to_allocator(w: World) -> None:
    await asyncio.gather(*(w.create() for _ in range(40)))
    assert sum(w.allocator.calls) == 40
    assert len(w.allocator.calls) < 40


async def test_a_number_that_cannot_take_the_parties_is_replaced(w: World) -> None:
    occupied = (await w.create()).number.split("/")[1]
    w.allocator.next = [occupied]
    made = await w.create(number_a=phone(C), number_b=phone(D))
    assert made.number != f"numbers/{occupied}"
    assert w.allocator.excluded[-1] == [occupied]
    w.allocator.next = [occupied] * 16
    assert await refusal(w.create()) == "ABORTED CONFLICT"
    w.allocator.lease_seconds = -1
    assert await refusal(w.create()) == "ABORTED CONFLICT"


async def test_a_shared_number_takes_each_party_once(w: World) -> None:
    w.allocator.policy = number_pb2.POOL_POLICY_SHARED
    first = (await w.create()).number.split("/")[1]
    w.allocator.next = [first, first]
    second = await w.create(number_a=phone(C), number_b=phone(D))
    third = await w.create(number_a=phone(B), number_b=phone("+8613912345678"))
    assert second.number == f"numbers/{first}"
    assert third.number != f"numbers/{first}"
    assert len((await w.list(number=second.number)).bindings) == 2


async def test_update_moves_the_expiry_from_the_current_version_only(w: World) -> None:
    made = await w.create()
    identity = str(uuid.uuid4())
    longer = await w.update(made.name, 1, 3 * 86400, identity)  # another day, another route key
    assert (longer.version, longer.order_id) == (2, "order-1")
    assert longer.expire_time.seconds > made.expire_time.seconds + 86400
    assert await refusal(w.update(made.name, 1, 7200)) == "ABORTED VERSION_STALE"
    assert await refusal(w.update(made.name, 2, 30)) == "INVALID_ARGUMENT EXPIRY_TOO_SOON"
    assert await refusal(w.update(made.name, 2, 7200, identity)) == (
        "ALREADY_EXISTS REQUEST_ID_REUSED"
    )
    far = await w.update(made.name, 2, 200 * 86400)  # another purge bucket
    assert far.version == 3
    await w.release(made.name)
    assert await refusal(w.update(made.name, 4, 7200)) == "FAILED_PRECONDITION BINDING_ENDED"
    routes = [events_pb2.Route.FromString(r.value) for r in published(w, "binding.routes.v1")]
    assert [route.version for route in routes] == [1, 2, 3, 4]
    assert len({route.callee_a.key_id for route in routes[:3]}) == 3


async def test_release_is_idempotent_and_may_name_a_version(w: World) -> None:
    made = await w.create()
    assert await refusal(w.release(made.name, 7)) == "ABORTED VERSION_STALE"
    ended = await asyncio.gather(*(w.release(made.name) for _ in range(5)))
    assert len({each.SerializeToString() for each in ended}) == 1
    assert (ended[0].state, ended[0].version) == (RELEASED, 2)
    assert await w.release(made.name, 1) == ended[0]
    assert len(published(w, "binding.bindings.v1")) == 2


async def test_what_is_unknown_is_not_found(w: World) -> None:
    name = f"{TENANT}/bindings/{uuid.uuid4()}"
    for call in (w.get(name), w.release(name), w.update(name, 1, 7200)):
        assert await refusal(call) == "NOT_FOUND BINDING_NOT_FOUND"
    made = await w.create()
    foreign = made.name.replace(TENANT, "tenants/other")
    assert await refusal(w.get(foreign)) == "NOT_FOUND BINDING_NOT_FOUND"
    assert await refusal(w.get("nonsense")) == "INVALID_ARGUMENT INVALID_FIELD"


async def test_pages_are_stable_and_tokens_belong_to_their_list(w: World) -> None:
    made = [await w.create() for _ in range(5)]
    first = await w.list(order_id="order-1", page_size=2)
    await w.create()
    second = await w.list(order_id="order-1", page_size=2, page_token=first.next_page_token)
    assert [*first.bindings, *second.bindings] == made[:4]
    wrong = w.list(order_id="order-2", page_token=first.next_page_token)
    assert await refusal(wrong) == "INVALID_ARGUMENT INVALID_PAGE_TOKEN"
    junk = w.list(order_id="order-1", page_token="é" * 8)
    assert await refusal(junk) == "INVALID_ARGUMENT INVALID_PAGE_TOKEN"
    assert await refusal(w.list(number="numbers/123")) == "INVALID_ARGUMENT NUMBER_INVALID"
    assert await refusal(w.list()) == "INVALID_ARGUMENT INVALID_FIELD"


async def test_an_expired_binding_is_released_once(
    kafka_bootstrap: str, valkey_url: str, tmp_path: Path
) -> None:
    async with world(kafka_bootstrap, valkey_url, tmp_path, minimum_life_seconds=1) as w:
        made = [await w.create(expire_time=ahead(2)) for _ in range(20)]
        async with asyncio.timeout(20):
            while {(await w.get(each.name)).state for each in made} != {RELEASED}:
                await asyncio.sleep(0.05)
        ended = await w.get(made[0].name)
        assert ended.release_reason == binding_pb2.RELEASE_REASON_EXPIRED
        assert ended.release_time.ToNanoseconds() >= ended.expire_time.ToNanoseconds()
        await until(lambda: len(published(w, "binding.bindings.v1")) >= 40)
        assert len(published(w, "binding.bindings.v1")) == 40


async def test_random_bytes_are_refused_not_fatal(w: World) -> None:
    channel = w.channel
    for method in ("Create", "Get", "Update", "Release"):
        call = channel.unary_unary(f"/axbridge.binding.v1.BindingService/{method}Binding")
        for raw in (b"\xff" * 40, b"\x0a\x05abc", bytes(range(256))):
            assert (await refusal(call(raw, timeout=5))).startswith("INVALID_ARGUMENT")
    assert (await w.create()).pool == POOL


async def test_ax_with_a_callee_becomes_a_pair(w: World) -> None:
    made = await w.create(mode=binding_pb2.BINDING_MODE_AX, number_b=None)
    assert (made.mode, made.extension) == (binding_pb2.BINDING_MODE_AX, "")
    wish = binding_service_pb2.SetTemporaryCalleeRequest(
        name=made.name, request_id=str(uuid.uuid4()), callee=phone(C)
    )
    named = await w.stub.SetTemporaryCallee(wish, timeout=10)
    assert named.callee_expire_time.seconds - named.update_time.seconds == 60
    assert await w.stub.SetTemporaryCallee(wish, timeout=10) == named
    upgrade = binding_service_pb2.UpgradeBindingRequest(
        name=made.name, request_id=str(uuid.uuid4()), version=2, number_b=phone(B)
    )
    pair = await w.stub.UpgradeBinding(upgrade, timeout=10)
    assert (pair.mode, pair.version) == (binding_pb2.BINDING_MODE_AXB, 3)
    assert not pair.HasField("callee_expire_time")
    assert list((await w.list(party=phone(B))).bindings) == [pair]
    for call in (
        w.stub.SetTemporaryCallee(
            binding_service_pb2.SetTemporaryCalleeRequest(
                name=made.name, request_id=str(uuid.uuid4())
            ),
            timeout=10,
        ),
        w.create(mode=binding_pb2.BINDING_MODE_AXE, number_b=None),
        w.create(mode=binding_pb2.BINDING_MODE_AX),
    ):
        assert await refusal(call) in (
            "FAILED_PRECONDITION MODE_DIFFERS",
            "FAILED_PRECONDITION MODE_NOT_FOR_POOL",
            "INVALID_ARGUMENT NOT_FOR_MODE",
        )


async def test_extensions_of_one_number_differ(w: World) -> None:
    w.allocator.policy = number_pb2.POOL_POLICY_SHARED
    number = f"7001{uuid.uuid4().int % 10**11:011d}"
    w.allocator.next = [number] * 10
    made = await asyncio.gather(*(
        w.create(
            mode=binding_pb2.BINDING_MODE_AXE, extension_digits=1, number_b=None,
            number_a=phone(f"+86138{n:08d}"),
        )
        for n in range(10)
    ))  # fmt: skip
    assert sorted(each.extension for each in made) == list("0123456789")
    assert {each.number for each in made} == {f"numbers/{number}"}
    assert await refusal(w.create(mode=binding_pb2.BINDING_MODE_AXE, number_b=None)) == "OK"
    assert (
        await refusal(w.create(mode=binding_pb2.BINDING_MODE_AX, number_b=None))
        == "FAILED_PRECONDITION MODE_NOT_FOR_POOL"
    )


async def test_two_numbers_for_a_and_b(w: World) -> None:
    w.allocator.policy = number_pb2.POOL_POLICY_SHARED
    made = await w.create(mode=binding_pb2.BINDING_MODE_AXYB)
    x, y = made.number.split("/")[1], made.second_number.split("/")[1]
    assert len({x, y}) == 2
    for number in (made.number, made.second_number):
        assert list((await w.list(number=number)).bindings) == [made]
    w.allocator.next = [x, y]
    other = await w.create(mode=binding_pb2.BINDING_MODE_AXYB, number_a=phone(C), number_b=phone(D))
    assert (other.number, other.second_number) == (made.number, made.second_number)
    await w.release(made.name)
    routes = [events_pb2.Route.FromString(r.value) for r in published(w, "binding.routes.v1")]
    ours = [each for each in routes if made.name.endswith(each.binding)]
    assert sorted((each.number, each.version) for each in ours) == sorted(
        (number, version) for number in (x, y) for version in (1, 2)
    )
    assert {each.number: each.lease_epoch for each in ours} == {
        each.number: epochs
        for each in ours
        for epochs in {o.other_lease_epoch for o in ours if o.number != each.number}
    }
    without = w.create(mode=binding_pb2.BINDING_MODE_AXYB, number_b=None)
    assert await refusal(without) == "INVALID_ARGUMENT PARTY_NUMBER_INVALID"


async def test_a_party_holds_five_numbers_of_ax(w: World) -> None:
    wishes = [w.create(mode=binding_pb2.BINDING_MODE_AX, number_b=None) for _ in range(7)]
    answers = await asyncio.gather(*map(refusal, wishes))
    assert sorted(answers) == ["FAILED_PRECONDITION PARTY_FULL"] * 2 + ["OK"] * 5


async def test_a_relative_expiry_and_options_are_shown(w: World) -> None:
    options = binding_pb2.BindingOptions(time_zone="Asia/Shanghai")
    options.windows.add(start_minute=540, end_minute=1080)
    options.sliding_life.seconds = 7200
    made = await w.create(expire_time=None, life={"seconds": 3600}, options=options)
    assert made.options == options
    assert made.expire_time.seconds - made.create_time.seconds == 3600
    renewal = binding_service_pb2.RenewBindingRequest(name=made.name, call_time=made.create_time)
    longer = await w.stub.RenewBinding(renewal, timeout=10)
    assert longer.expire_time.seconds - made.create_time.seconds == 7200
    assert await w.stub.RenewBinding(renewal, timeout=10) == longer
    plain = await w.create()
    renewal.name = plain.name
    assert (
        await refusal(w.stub.RenewBinding(renewal, timeout=10))
        == "FAILED_PRECONDITION BINDING_NOT_SLIDING"
    )
