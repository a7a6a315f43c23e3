"""Requests and records to domain values and back. Pure; total both ways.

Refuses whatever the contract does not allow, each with its field. Invariant: a domain value that
leaves here is well formed, and an answer says nothing that the domain value does not.
"""

from collections.abc import Sequence
from typing import Final

from axbridge.allocator.v1 import allocator_service_pb2 as service_pb2
from axbridge.allocator.v1 import events_pb2, number_pb2
from axbridge.binding.v1 import binding_pb2
from axbridge.binding.v1 import events_pb2 as binding_events_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import code_pb2, error_details_pb2, status_pb2

from services.allocator import domain
from services.allocator.domain import Block, Lease, Leased, Number, Pool, PoolId, RouteState
from services.runtime.errors import InvalidArgument, Malformed
from services.runtime.record import Record
from services.runtime.status import DOMAIN

_POLICY: Final = {
    number_pb2.POOL_POLICY_EXCLUSIVE: domain.Policy.EXCLUSIVE,
    number_pb2.POOL_POLICY_SHARED: domain.Policy.SHARED,
}
_POLICY_OUT: Final = {policy: value for value, policy in _POLICY.items()}
_STATE_OUT: Final = {
    domain.State.FREE: number_pb2.NUMBER_STATE_FREE,
    domain.State.LEASED: number_pb2.NUMBER_STATE_LEASED,
    domain.State.BOUND: number_pb2.NUMBER_STATE_BOUND,
    domain.State.COOLING: number_pb2.NUMBER_STATE_COOLING,
    domain.State.LOCKED: number_pb2.NUMBER_STATE_LOCKED,
}
_ROUTE_STATE: Final = {
    binding_pb2.BINDING_STATE_ACTIVE: RouteState.ACTIVE,
    binding_pb2.BINDING_STATE_RELEASED: RouteState.RELEASED,
}


def pool_in(message: number_pb2.Pool, now_ms: int) -> Pool:
    """The pool to create. Raises InvalidArgument."""
    policy = _POLICY.get(message.policy)
    if policy is None:
        raise _invalid("pool.policy", "EXCLUSIVE or SHARED")
    cooling = domain.DEFAULT_COOLING_MS
    if message.HasField("cooling"):
        cooling = _span(message.cooling, domain.COOLING_RANGE_MS, "pool.cooling")
    return Pool(domain.pool_id(message.name, "pool.name"), policy, cooling, now_ms)


def pool_out(pool: Pool) -> number_pb2.Pool:
    """The resource."""
    return number_pb2.Pool(
        name=pool.id.name,
        policy=_POLICY_OUT[pool.policy],
        cooling=duration(pool.cooling_ms),
        create_time=timestamp(pool.created_ms),
    )


def pool_stored(data: bytes) -> Pool:
    """The pool from its stored bytes, which `pool_out` made. Loading checks no range anew."""
    message = number_pb2.Pool.FromString(data)
    return Pool(
        domain.pool_id(message.name),
        _POLICY[message.policy],
        _ms(message.cooling),
        _ms(message.create_time),
    )


def block_in(message: number_pb2.Block, now_ms: int) -> Block:
    """The block to register. Raises InvalidArgument (BLOCK_INVALID, INVALID_FIELD)."""
    digits = domain.block_digits(message.name)
    return Block(digits, domain.pool_id(message.pool, "block.pool"), now_ms)


def block_out(block: Block) -> number_pb2.Block:
    """The resource."""
    return number_pb2.Block(
        name=f"blocks/{block.block}",
        pool=block.pool.name,
        create_time=timestamp(block.created_ms),
    )


def block_stored(data: bytes) -> Block:
    """The block from its stored bytes, which `block_out` made."""
    message = number_pb2.Block.FromString(data)
    return block_in(message, _ms(message.create_time))


def number_out(number: Number) -> number_pb2.Number:
    """The resource."""
    message = number_pb2.Number(
        name=f"numbers/{number.number}",
        pool=number.pool.name,
        state=_STATE_OUT[number.state],
        pairs=number.pairs,
        version=number.version,
    )
    if number.cool_until_ms:
        message.cool_until.CopyFrom(timestamp(number.cool_until_ms))
    return message


def wishes_in(
    request: service_pb2.LeaseNumbersRequest,
) -> tuple[PoolId, list[domain.Wish], int]:
    """Pool, wishes and life of the leases in ms. Raises InvalidArgument."""
    pool = domain.pool_id(request.parent, "parent")
    if not 1 <= len(request.items) <= domain.MAX_ITEMS:
        raise _invalid("items", "1 to 200 items")
    life = domain.DEFAULT_LEASE_MS
    if request.HasField("duration"):
        life = _span(request.duration, domain.LEASE_RANGE_MS, "duration")
    return pool, [_wish(item) for item in request.items], life


def _wish(item: service_pb2.LeaseItem) -> domain.Wish:
    tags = tuple(item.party_tags)
    if any(len(tag) != domain.TAG_OCTETS for tag in tags) or len(tags) > domain.MAX_ITEMS:
        raise _invalid("items.party_tags", "at most 200 tags of 16 octets")
    if len(item.excluded_numbers) > domain.MAX_ITEMS:
        raise _invalid("items.excluded_numbers", "at most 200 numbers")
    return domain.Wish(tags, tuple(domain.middle_number(n) for n in item.excluded_numbers))


def leased_out(leased: Leased) -> service_pb2.LeaseNumbersResponse:
    """One result per wish."""
    policy, cooling = _POLICY_OUT[leased.pool.policy], duration(leased.pool.cooling_ms)
    exhausted = service_pb2.LeaseResult(error=_exhausted(leased.pool.id))
    return service_pb2.LeaseNumbersResponse(
        results=[
            exhausted
            if lease is None
            else service_pb2.LeaseResult(
                lease=number_pb2.Lease(
                    number=lease.number,
                    epoch=lease.epoch,
                    expire_time=timestamp(lease.deadline_ms),
                    policy=policy,
                    cooling=cooling,
                )
            )
            for lease in leased.leases
        ]
    )


def _exhausted(pool: PoolId) -> status_pb2.Status:
    status = status_pb2.Status(
        code=code_pb2.RESOURCE_EXHAUSTED,
        message="no number of the pool can take these parties now",
    )
    info = error_details_pb2.ErrorInfo(reason="POOL_EXHAUSTED", domain=DOMAIN)
    info.metadata["pool"] = pool.name
    status.details.add().Pack(info)
    return status


def leases_in(messages: Sequence[number_pb2.Lease]) -> list[Lease]:
    """The leases to return. Raises InvalidArgument."""
    if not 1 <= len(messages) <= domain.MAX_ITEMS:
        raise _invalid("leases", "1 to 200 leases")
    if any(message.epoch < 1 for message in messages):
        raise _invalid("leases.epoch", "as given by LeaseNumbers")
    return [Lease(domain.middle_number(message.number), message.epoch) for message in messages]


def reason_in(text: str) -> str:
    """An operator's reason. Raises InvalidArgument."""
    if not 1 <= len(text) <= domain.MAX_REASON:
        raise _invalid("reason", "1 to 200 characters")
    return text


def statistics_out(found: domain.Statistics) -> number_pb2.PoolStatistics:
    """The message."""
    return number_pb2.PoolStatistics(
        total=found.total,
        free=found.free,
        leased=found.leased,
        bound=found.bound,
        cooling=found.cooling,
        locked=found.locked,
        pairs=found.pairs,
    )


def lock_record(number: str, reason: str, time_ms: int) -> bytes:
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
        domain.middle_number(number)
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
            _ms(route.cool_until),
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


def _ms(message: Timestamp | Duration) -> int:
    return message.seconds * 1000 + message.nanos // 1_000_000


def _span(message: Duration, within: tuple[int, int], field: str) -> int:
    span = _ms(message)
    if not within[0] <= span <= within[1]:
        raise _invalid(field, f"{within[0]} to {within[1]} ms")
    return span


def _invalid(field: str, text: str) -> InvalidArgument:
    return InvalidArgument("INVALID_FIELD", text, field=field)
