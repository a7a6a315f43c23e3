"""The Kafka edge in: records of the route topics as values of the view. Pure.

Refuses what is no route (Malformed, so the record is parked). A mode or options that this build
does not know pass: they are newer terms of a binding, which end the older ones, and `decide`
refuses them. Invariant: a route that passes fits its key and has tags of 16 octets, A's and B's two
different ones; in mode AXB both, and one callee for each while it is active.
"""

from typing import Final

from axbridge.binding.v1 import binding_pb2, events_pb2
from axbridge.router.v1 import events_pb2 as router_events
from google.protobuf.message import DecodeError

from services.router.denials import Denial, DenialEnd
from services.router.lastcalls import LastCall
from services.router.view import Copy, Route, RouteKey, Tombstone
from services.runtime.errors import Malformed
from services.runtime.phone import is_middle_number
from services.runtime.record import Record

_STATES: Final = {
    binding_pb2.BINDING_STATE_ACTIVE: True,
    binding_pb2.BINDING_STATE_RELEASED: False,
}
_AXB: Final = binding_pb2.BINDING_MODE_AXB
_LONGEST_OPTIONS: Final = 4096  # of ours: 21 windows and 12 codes are 800
_LONGEST_NAME: Final = 128  # a tenant's, pool's or binding's; LMDB keys hold 511 octets
_LONGEST_BACK_MS: Final = 7 * 24 * 3600 * 1000
_LONGEST_DENIAL_KEY: Final = 192  # fits in an octet, and with a grave's time into a key of LMDB


def decode_route(record: Record) -> Route | Tombstone:
    """The record of `binding.routes.v1`.

    Raises:
        Malformed: ROUTE_MALFORMED or ENVELOPE_MALFORMED.
    """
    number, binding = _route_key(record.key)
    if record.value is None:
        envelope = record.envelope
        return Tombstone(number, binding, envelope.version, envelope.time_ms)
    route = events_pb2.Route()
    try:
        route.ParseFromString(record.value)
    except DecodeError:
        raise Malformed("ROUTE_MALFORMED") from None
    active = _STATES.get(route.state)
    if (
        active is None
        or not 0 < route.mode < 256
        or not (route.options.isascii() and len(route.options) <= _LONGEST_OPTIONS)
        or (route.number, route.binding) != (number, binding)
        or not 0 < len(route.tenant) <= _LONGEST_NAME
        or not (len(route.tag_a) == 16 and len(route.tag_b) in (0, 16))
        or route.tag_a == route.tag_b
        or (route.mode == _AXB and not route.tag_b)
        or (route.mode == _AXB and active and not (route.callee_a.box and route.callee_b.box))
        or not 0 <= route.max_call_minutes <= 1440
        or not 0 <= route.direction <= 3
        or len(route.pool) > _LONGEST_NAME
        or min(route.version, route.expire_time.seconds, route.lease_epoch + 1) <= 0
    ):
        raise Malformed("ROUTE_MALFORMED")
    return _route(route, active)


def _route(route: events_pb2.Route, active: bool) -> Route:
    expire_ms = route.expire_time.seconds * 1000 + route.expire_time.nanos // 1_000_000
    return Route(
        route.tenant, route.binding, route.number, route.version, active, route.mode,
        route.direction, route.max_call_minutes, expire_ms, route.tag_a, route.tag_b,
        Copy(route.callee_a.key_id, route.callee_a.box),
        Copy(route.callee_b.key_id, route.callee_b.box), route.lease_epoch, route.industry_id,
        route.options, route.pool,
    )  # fmt: skip


def decode_key(record: Record) -> RouteKey:
    """The record of `binding.keys.v1`.

    Raises:
        Malformed: ROUTE_KEY_MALFORMED.
    """
    try:
        key_id = record.key.decode()
        if record.value is None:
            return RouteKey(key_id, None)
        key = events_pb2.RouteKey.FromString(record.value)
    except (UnicodeDecodeError, DecodeError):
        raise Malformed("ROUTE_KEY_MALFORMED") from None
    wrapping = key.wrapped.key_id
    if key.key_id != key_id or not 0 < len(record.key) <= 255 or not key.wrapped.box:
        raise Malformed("ROUTE_KEY_MALFORMED")
    if "\n" in wrapping:
        raise Malformed("ROUTE_KEY_MALFORMED")
    return RouteKey(key_id, Copy(wrapping, key.wrapped.box))


def decode_denial(record: Record) -> Denial | DenialEnd:
    """The record of `binding.denials.v1`.

    Raises:
        Malformed: DENIAL_MALFORMED or ENVELOPE_MALFORMED.
    """
    try:
        key = record.key.decode("ascii")
        denial = events_pb2.Denial.FromString(record.value or b"")
    except (UnicodeDecodeError, DecodeError):
        raise Malformed("DENIAL_MALFORMED") from None
    if len(key) > _LONGEST_DENIAL_KEY:
        raise Malformed("DENIAL_MALFORMED")
    if record.value is None:
        envelope = record.envelope
        return DenialEnd(key, envelope.version, envelope.time_ms)
    if (
        key != f"blacklist/{denial.tenant}/{denial.entry}"
        or not denial.tenant
        or not denial.entry
        or len(denial.pool) > _LONGEST_NAME
        or len(denial.caller_tag) != 16
        or len(denial.callee_tag) not in (0, 16)
        or min(denial.version, denial.expire_time.seconds) <= 0
    ):
        raise Malformed("DENIAL_MALFORMED")
    expire_ms = denial.expire_time.seconds * 1000 + denial.expire_time.nanos // 1_000_000
    return Denial(
        key, denial.tenant, denial.version, denial.pool, denial.caller_tag, denial.callee_tag,
        expire_ms,
    )  # fmt: skip


def decode_caller(record: Record) -> LastCall:
    """The record of `router.callers.v1`.

    Raises:
        Malformed: CALLER_MALFORMED.
    """
    try:
        number, binding = _route_key(record.key)
        found = router_events.LastCaller.FromString(record.value or b"")
    except (DecodeError, Malformed):
        raise Malformed("CALLER_MALFORMED") from None
    time_ms = found.time.seconds * 1000 + found.time.nanos // 1_000_000
    expire_ms = found.expire_time.seconds * 1000 + found.expire_time.nanos // 1_000_000
    if (
        (found.number, found.binding) != (number, binding)
        or not 0 < time_ms < expire_ms <= time_ms + _LONGEST_BACK_MS
        or not found.caller.box
        or not 0 < len(found.caller.key_id) <= 255
    ):
        raise Malformed("CALLER_MALFORMED")
    return LastCall(
        number, binding, time_ms, expire_ms, Copy(found.caller.key_id, found.caller.box)
    )


def _route_key(key: bytes) -> tuple[str, str]:
    try:
        number, _, binding = key.decode("ascii").partition("/")
    except UnicodeDecodeError:
        raise Malformed("ROUTE_MALFORMED") from None
    if not is_middle_number(number) or not 0 < len(binding) <= _LONGEST_NAME:
        raise Malformed("ROUTE_MALFORMED")
    return number, binding
