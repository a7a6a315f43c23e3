"""Requests to domain values and back, and route records to changes: total, or refused by name."""

import pytest
from axbridge.allocator.v1 import allocator_service_pb2 as pb
from axbridge.allocator.v1 import number_pb2
from axbridge.binding.v1 import binding_pb2
from axbridge.binding.v1 import events_pb2 as binding_events_pb2
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2
from hypothesis import given
from hypothesis import strategies as st

from services.allocator import translate
from services.allocator.domain import (
    Block,
    Lease,
    Leased,
    Number,
    Policy,
    Pool,
    PoolId,
    RouteChange,
    RouteState,
    State,
)
from services.runtime.errors import InvalidArgument, Malformed
from services.runtime.record import Record

POOL = PoolId("didi", "city")
NUMBER = "700100000010001"
TIMES = st.integers(0, 2**41)


@given(st.sampled_from(Policy), st.integers(1000, 90 * 86_400_000), TIMES)
def test_a_pool_comes_back(policy: Policy, cooling_ms: int, created_ms: int) -> None:
    pool = Pool(POOL, policy, cooling_ms, created_ms)
    assert translate.pool_stored(translate.pool_out(pool).SerializeToString()) == pool
    assert translate.pool_in(translate.pool_out(pool), created_ms) == pool


@given(TIMES)
def test_a_block_comes_back(created_ms: int) -> None:
    block = Block("70010000001", POOL, created_ms)
    assert translate.block_stored(translate.block_out(block).SerializeToString()) == block


@given(st.sampled_from(State), TIMES)
def test_a_number_shows_its_state(state: State, till: int) -> None:
    message = translate.number_out(Number(NUMBER, POOL, state, 7, till, 9))
    assert number_pb2.NumberState.Name(message.state) == f"NUMBER_STATE_{state.name}"
    assert message.HasField("cool_until") == bool(till)
    assert (message.pairs, message.version) == (7, 9)


def test_defaults_and_ranges_of_a_lease() -> None:
    request = pb.LeaseNumbersRequest(parent=POOL.name, items=[pb.LeaseItem()])
    assert translate.wishes_in(request)[2] == 30_000
    for seconds, good in ((0, False), (1, True), (600, True), (601, False), (-5, False)):
        request.duration.CopyFrom(Duration(seconds=seconds))
        if good:
            assert translate.wishes_in(request)[2] == seconds * 1000
        else:
            with pytest.raises(InvalidArgument, match="duration"):
                translate.wishes_in(request)
    del request.items[:]
    request.items.extend([pb.LeaseItem()] * 201)
    with pytest.raises(InvalidArgument, match="items"):
        translate.wishes_in(request)


def test_a_missing_number_is_an_error_of_its_item() -> None:
    pool = Pool(POOL, Policy.SHARED, 1500, 0)
    leased = Leased(pool, (Lease(NUMBER, 5, 1_234), None))
    first, second = translate.leased_out(leased).results
    assert (first.lease.epoch, first.lease.expire_time.ToMilliseconds()) == (5, 1_234)
    assert first.lease.cooling.ToMilliseconds() == 1500
    info = error_details_pb2.ErrorInfo()
    assert second.error.details[0].Unpack(info)
    assert (info.reason, dict(info.metadata)) == ("POOL_EXHAUSTED", {"pool": POOL.name})


def record(key: str, value: bytes | None) -> Record:
    return Record("binding.routes.v1", 0, 0, key.encode(), value, [], 0)


def test_routes_become_changes() -> None:
    route = binding_events_pb2.Route(
        number=NUMBER,
        binding="b1",
        version=2,
        state=binding_pb2.BINDING_STATE_RELEASED,
        tag_a=b"a" * 16,
        tag_b=b"b" * 16,
        lease_epoch=7,
        cool_until=translate.timestamp(99_001),
    )
    change = translate.route_change(record(f"{NUMBER}/b1", route.SerializeToString()))
    tags = (b"a" * 16, b"b" * 16)
    assert change == RouteChange(RouteState.RELEASED, NUMBER, "b1", 2, 7, 99_001, tags)
    gone = translate.route_change(record(f"{NUMBER}/b1", None))
    assert gone == RouteChange(RouteState.FORGOTTEN, NUMBER, "b1")
    for key, change_ in {
        f"{NUMBER}/b2": {},
        "13812345678/b1": {},
        NUMBER: {},
        f"{NUMBER}/b1": {"version": 0},
        f"{NUMBER}/b1 ": {},
    }.items():
        bad = binding_events_pb2.Route()
        bad.CopyFrom(route)
        if change_:
            bad.version = 0
        with pytest.raises(Malformed, match="ROUTE_MALFORMED"):
            translate.route_change(record(key, bad.SerializeToString()))
    route.tag_a = b"short"
    with pytest.raises(Malformed):
        translate.route_change(record(f"{NUMBER}/b1", route.SerializeToString()))


@given(st.binary(max_size=40), st.binary(max_size=60))
def test_any_octets_are_parked_not_fatal(key: bytes, value: bytes) -> None:
    with pytest.raises(Malformed):
        translate.route_change(Record("t", 0, 0, key, value, [], 0))
