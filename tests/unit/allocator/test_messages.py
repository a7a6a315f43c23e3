"""Resources and records as messages and back: total, or parked."""

import pytest
from axbridge.allocator.v1 import number_pb2
from axbridge.binding.v1 import binding_pb2
from axbridge.binding.v1 import events_pb2 as binding_events_pb2
from hypothesis import given
from hypothesis import strategies as st

from services.allocator import messages, translate
from services.allocator.domain import (
    Block,
    BlockState,
    Number,
    Policy,
    Pool,
    PoolId,
    RouteChange,
    RouteState,
    State,
)
from services.runtime.errors import Malformed
from services.runtime.record import Record

POOL = PoolId("didi", "city")
NUMBER = "700100000010001"
TIMES = st.integers(0, 2**41)


@given(st.sampled_from(Policy), st.integers(1000, 90 * 86_400_000), TIMES)
def test_a_pool_comes_back(policy: Policy, cooling_ms: int, created_ms: int) -> None:
    pool = Pool(POOL, policy, cooling_ms, created_ms, cooling_ms + 5)
    assert messages.pool_stored(messages.pool_out(pool).SerializeToString()) == pool
    pool = Pool(POOL, policy, cooling_ms, created_ms, cooling_ms)
    assert translate.pool_in(messages.pool_out(pool), created_ms) == pool


def test_a_pool_of_before_pairs_had_their_own_cooling() -> None:
    shared = messages.pool_out(Pool(POOL, Policy.SHARED, 1000, 1))
    assert messages.pool_stored(shared.SerializeToString()).pair_cooling_ms == 1000
    exclusive = messages.pool_out(Pool(POOL, Policy.EXCLUSIVE, 1000, 1))
    assert messages.pool_stored(exclusive.SerializeToString()).pair_cooling_ms == 0


@given(TIMES, st.sampled_from(BlockState), st.sampled_from(["", "440300"]))
def test_a_block_comes_back(created_ms: int, state: BlockState, area: str) -> None:
    block = Block("70010000001", POOL, created_ms, area, state)
    assert messages.block_stored(messages.block_out(block).SerializeToString()) == block
    base = messages.block_base(block)
    assert messages.block_stored(base).state is BlockState.ACTIVE
    # As the functions add it: the last of a field counts.
    assert messages.block_stored(base + bytes((5 << 3, state.value))) == block


@given(st.sampled_from(State), TIMES)
def test_a_number_shows_its_state(state: State, till: int) -> None:
    message = messages.number_out(Number(NUMBER, POOL, state, 7, till, 9, ((state, till),)))
    assert number_pb2.NumberState.Name(message.state) == f"NUMBER_STATE_{state.name}"
    assert message.HasField("cool_until") == bool(till)
    assert (message.pairs, message.version) == (7, 9)
    (past,) = message.history
    assert (past.state, past.time.ToMilliseconds()) == (message.state, till)
    packed = bytes((message.state,)) + till.to_bytes(6, "big")
    assert messages.history(packed * 2) == ((state, till),) * 2


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
        cool_until=messages.timestamp(99_001),
    )
    change = messages.route_change(record(f"{NUMBER}/b1", route.SerializeToString()))
    tags = (b"a" * 16, b"b" * 16)
    assert change == RouteChange(RouteState.RELEASED, NUMBER, "b1", 2, 7, 99_001, tags)
    gone = messages.route_change(record(f"{NUMBER}/b1", None))
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
            messages.route_change(record(key, bad.SerializeToString()))
    route.tag_a = b"short"
    with pytest.raises(Malformed):
        messages.route_change(record(f"{NUMBER}/b1", route.SerializeToString()))


@given(st.binary(max_size=40), st.binary(max_size=60))
def test_any_octets_are_parked_not_fatal(key: bytes, value: bytes) -> None:
    with pytest.raises(Malformed):
        messages.route_change(Record("t", 0, 0, key, value, [], 0))
