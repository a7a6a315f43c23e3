"""Pools, blocks, numbers and leases as messages and back, and the records of the topics. Pure.

Refuses requests (translate.py). Invariant: loading is not constructing: what is stored was checked
when it came in, and is taken as it is.
"""

from typing import Final

from axbridge.allocator.v1 import events_pb2, number_pb2
from axbridge.binding.v1 import binding_pb2
from axbridge.binding.v1 import events_pb2 as binding_events_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from services.allocator import domain, names
from services.allocator.domain import Block, BlockState, Number, Pool, RouteState
from services.runtime.errors import InvalidArgument, Malformed
from services.runtime.record import Record

POLICY: Final = {
    number_pb2.POOL_POLICY_EXCLUSIVE: domain.Policy.EXCLUSIVE,
    number_pb2.POOL_POLICY_SHARED: domain.Policy.SHARED,
}
POLICY_OUT: Final = {policy: value for value, policy in POLICY.items()}
STATES: Final = {
    number_pb2.NUMBER_STATE_FREE: domain.State.FREE,
    number_pb2.NUMBER_STATE_LEASED: domain.State.LEASED,
    number_pb2.NUMBER_STATE_BOUND: domain.State.BOUND,
    number_pb2.NUMBER_STATE_COOLING: domain.State.COOLING,
    number_pb2.NUMBER_STATE_LOCKED: domain.State.LOCKED,
    number_pb2.NUMBER_STATE_RESERVED: domain.State.RESERVED,
    number_pb2.NUMBER_STATE_SUSPENDED: domain.State.SUSPENDED,
    number_pb2.NUMBER_STATE_RETIRED: domain.State.RETIRED,
}
_STATE_OUT: Final = {state: value for value, state in STATES.items()}
_BLOCK_STATE: Final = {
    number_pb2.BLOCK_STATE_ACTIVE: BlockState.ACTIVE,
    number_pb2.BLOCK_STATE_SUSPENDED: BlockState.SUSPENDED,
    number_pb2.BLOCK_STATE_RETIRING: BlockState.RETIRING,
    number_pb2.BLOCK_STATE_RETIRED: BlockState.RETIRED,
}
_BLOCK_STATE_OUT: Final = {state: value for value, state in _BLOCK_STATE.items()}
_ROUTE_STATE: Final = {
    binding_pb2.BINDING_STATE_ACTIVE: RouteState.ACTIVE,
    binding_pb2.BINDING_STATE_RELEASED: RouteState.RELEASED,
}


def pool_out(pool: Pool) -> number_pb2.Pool:
    """The resource."""
    message = number_pb2.Pool(
        name=pool.id.name,
        policy=POLICY_OUT[pool.policy],
        cooling=duration(pool.cooling_ms),
        create_time=timestamp(pool.created_ms),
    )
    if pool.pair_cooling_ms:
        message.pair_cooling.CopyFrom(duration(pool.pair_cooling_ms))
    return message


def pool_stored(data: bytes) -> Pool:
    """The pool from its stored bytes, which `pool_out` made."""
    message = number_pb2.Pool.FromString(data)
    policy, cooling = POLICY[message.policy], millis(message.cooling)
    pair = millis(message.pair_cooling)
    if policy is domain.Policy.SHARED:
        pair = pair or cooling  # it was created before there was a cooling of its own
    return Pool(names.pool_id(message.name), policy, cooling, millis(message.create_time), pair)


def block_out(block: Block) -> number_pb2.Block:
    """The resource."""
    return number_pb2.Block(
        name=f"blocks/{block.block}",
        pool=block.pool.name,
        create_time=timestamp(block.created_ms),
        area=block.area,
        state=_BLOCK_STATE_OUT[block.state],
    )


def block_of(message: number_pb2.Block) -> Block:
    """The block that a stored message tells of; one of before there were states is active."""
    return Block(
        names.block_digits(message.name),
        names.pool_id(message.pool),
        millis(message.create_time),
        message.area,
        _BLOCK_STATE.get(message.state, BlockState.ACTIVE),
    )


def block_stored(data: bytes) -> Block:
    """The block from its stored bytes."""
    return block_of(number_pb2.Block.FromString(data))


def block_base(block: Block) -> bytes:
    """The block's bytes without its state, which the functions add as it stands."""
    message = block_out(block)
    message.ClearField("state")
    return message.SerializeToString()


def number_out(number: Number) -> number_pb2.Number:
    """The resource."""
    message = number_pb2.Number(
        name=f"numbers/{number.number}",
        pool=number.pool.name,
        state=_STATE_OUT[number.state],
        pairs=number.pairs,
        version=number.version,
        history=[
            number_pb2.NumberTransition(state=_STATE_OUT[state], time=timestamp(time_ms))
            for state, time_ms in number.history
        ],
    )
    if number.cool_until_ms:
        message.cool_until.CopyFrom(timestamp(number.cool_until_ms))
    return message


def history(packed: bytes) -> tuple[tuple[domain.State, int], ...]:
    """The states in a number's hash: one octet for each and six for its time in ms."""
    parts = (packed[at : at + 7] for at in range(0, len(packed), 7))
    return tuple((STATES[part[0]], int.from_bytes(part[1:], "big")) for part in parts)  # type: ignore[index]


def mark_record(number: str, reason: str, time_ms: int) -> bytes:
    """A LockRecord."""
    record = events_pb2.LockRecord(number=number, reason=reason, lock_time=timestamp(time_ms))
    return record.SerializeToString()


def route_change(record: Record) -> domain.RouteChange:
    """What a record of `binding.routes.v1` changes.

    Raises:
        Malformed: ROUTE_MALFORMED: park it.
    """
    number, slash, binding = record.key.decode("ascii", "replace").partition("/")
    try:
        if not slash or not binding or ":" in binding:
            raise ValueError("key")
        names.middle_number(number)
        if record.value is None:
            return domain.RouteChange(RouteState.FORGOTTEN, number, binding)
        route = binding_events_pb2.Route.FromString(record.value)
        if (route.number, route.binding) != (number, binding) or route.version < 1:
            raise ValueError("identity")
        tags = tuple(tag for tag in (route.tag_a, route.tag_b) if tag)
        if any(len(tag) != domain.TAG_OCTETS for tag in tags):
            raise ValueError("tags")
        return domain.RouteChange(
            _ROUTE_STATE[route.state],
            number,
            binding,
            route.version,
            route.lease_epoch,
            millis(route.cool_until),
            tags,
        )
    except (InvalidArgument, DecodeError, KeyError, ValueError):
        raise Malformed("ROUTE_MALFORMED") from None


def timestamp(ms: int) -> Timestamp:
    """Milliseconds since 1970 as a Timestamp."""
    return Timestamp(seconds=ms // 1000, nanos=ms % 1000 * 1_000_000)


def duration(ms: int) -> Duration:
    """A span of milliseconds, 0 or more."""
    return Duration(seconds=ms // 1000, nanos=ms % 1000 * 1_000_000)


def millis(message: Timestamp | Duration) -> int:
    """The milliseconds, rounded down."""
    return message.seconds * 1000 + message.nanos // 1_000_000
