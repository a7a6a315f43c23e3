"""A binding as the messages that are published and stored, and back.

Pure: knows the protos, never a key or a topic. Refuses values that do not decode (Malformed).
Invariant: nothing is lost on the way there and back but what only keys open.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from axbridge.binding.v1 import binding_pb2, events_pb2
from axbridge.type.v1 import sealed_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from services.binding.choices import shown
from services.binding.domain import Answered, Binding, Direction, Mode, Reason, State, Terms
from services.runtime.aead import Sealed
from services.runtime.errors import Malformed
from services.runtime.options import Options, parse

MODES: Final = {
    Mode.AXB: binding_pb2.BINDING_MODE_AXB,
    Mode.AX: binding_pb2.BINDING_MODE_AX,
    Mode.AXYB: binding_pb2.BINDING_MODE_AXYB,
    Mode.AXE: binding_pb2.BINDING_MODE_AXE,
}
_SIZE: Final = re.compile(rb".[\x80-\xff]*[\x00-\x7f]", re.DOTALL)  # a field's tag, its length
_STATES: Final = {
    State.ACTIVE: binding_pb2.BINDING_STATE_ACTIVE,
    State.RELEASED: binding_pb2.BINDING_STATE_RELEASED,
}
DIRECTIONS: Final = {
    Direction.BOTH: binding_pb2.CALL_DIRECTION_BOTH,
    Direction.A_TO_B: binding_pb2.CALL_DIRECTION_A_TO_B,
    Direction.B_TO_A: binding_pb2.CALL_DIRECTION_B_TO_A,
}
REASONS: Final = {
    Reason.NONE: binding_pb2.RELEASE_REASON_UNSPECIFIED,
    Reason.REQUESTED: binding_pb2.RELEASE_REASON_REQUESTED,
    Reason.EXPIRED: binding_pb2.RELEASE_REASON_EXPIRED,
    Reason.UNCONFIRMED: binding_pb2.RELEASE_REASON_UNCONFIRMED,
    Reason.CONSENT_WITHDRAWN: binding_pb2.RELEASE_REASON_CONSENT_WITHDRAWN,
    Reason.ERASURE: binding_pb2.RELEASE_REASON_ERASURE,
}


@dataclass(frozen=True, slots=True, repr=False)
class Copies:
    """What only keys open. The callees are None once released; the evidence copy and the secrets
    are None where the store was lost before they were acknowledged."""

    callee_a: Sealed | None
    callee_b: Sealed | None
    evidence: Sealed | None
    secrets: Sealed | None


def read_state(value: bytes) -> events_pb2.BindingRecord | None:
    """A value of the state topic; None for the cell's own record. Raises Malformed."""
    try:
        state = events_pb2.StateRecord.FromString(value)
    except DecodeError:
        raise Malformed("STATE_MALFORMED") from None
    return state.binding if state.HasField("binding") else None


def read_route(value: bytes) -> events_pb2.Route:
    """A value of the routes topic. Raises Malformed."""
    try:
        return events_pb2.Route.FromString(value)
    except DecodeError:
        raise Malformed("ROUTE_MALFORMED") from None


def from_record(
    record: events_pb2.BindingRecord, order_id: str = "", customer_data: bytes = b""
) -> tuple[Binding, Copies]:
    """The binding and its copies; what was sealed is for the caller to open and pass in."""
    route, binding = record.route, binding_of(record, order_id, customer_data)
    secrets = unsealed(record.secrets)
    return binding, Copies(unsealed(route.callee_a), unsealed(route.callee_b), None, secrets)


def binding_of(
    record: events_pb2.BindingRecord, order_id: str = "", customer_data: bytes = b""
) -> Binding:
    """The binding alone."""
    route, options = record.route, _options(record.route.options)
    x, _, second = options.numbers.partition("-")
    epochs = route.lease_epoch, route.other_lease_epoch
    if route.number == second:  # Y's own route, where the state is not known
        epochs = route.other_lease_epoch, route.lease_epoch
    return Binding(
        tenant=route.tenant,
        id=route.binding,
        number=x or route.number,
        terms=Terms(
            pool=route.pool,
            order_id=order_id,
            industry_id=route.industry_id,
            expire_ms=millis(route.expire_time),
            direction=Direction(route.direction),
            max_call_minutes=route.max_call_minutes,
            customer_data=customer_data,
            options=options,
            mode=Mode(route.mode),
        ),
        tag_a=route.tag_a,
        tag_b=route.tag_b,
        lease_epoch=epochs[0],
        cooling_ms=record.cooling_ms,
        exclusive=record.exclusive,
        pair_cooling_ms=record.pair_cooling_ms,
        create_ms=millis(record.create_time),
        update_ms=millis(record.update_time),
        requests=answered_of(record.requests),
        version=route.version,
        state=State.RELEASED if route.state == binding_pb2.BINDING_STATE_RELEASED else State.ACTIVE,
        reason=Reason(route.release_reason),
        release_ms=millis(record.release_time),
        cool_until_ms=millis(route.cool_until),
        consent_a=record.consent_a.rpartition("/")[2],
        consent_b=record.consent_b.rpartition("/")[2],
        drain_ms=millis(route.drain_until),
        second_epoch=epochs[1],
    )


def secrets_of(binding: Binding, evidence: Sealed | None) -> bytes:
    """The plaintext of the sealed part."""
    return events_pb2.BindingSecrets(
        tag_a=binding.tag_a,
        tag_b=binding.tag_b,
        order_id=binding.terms.order_id,
        customer_data=binding.terms.customer_data,
        evidence=sealed(evidence),
    ).SerializeToString()


def _options(text: str) -> Options:
    try:
        return parse(text)
    except ValueError:
        raise Malformed("ROUTE_MALFORMED") from None


def unsealed(box: sealed_pb2.Sealed) -> Sealed | None:
    """The box without the proto; None for an empty one."""
    return Sealed(box.key_id, box.box) if box.box else None


@lru_cache(maxsize=1024)  # the same moments stand in several messages of a version
def timestamp(ms: int) -> Timestamp | None:
    """Milliseconds since 1970 as a Timestamp, to be copied, not changed; 0 is none."""
    return Timestamp(seconds=ms // 1000, nanos=ms % 1000 * 1_000_000) if ms else None


def millis(time: Timestamp | Duration) -> int:
    """A time in milliseconds since 1970, or a span, rounded down."""
    return time.seconds * 1000 + time.nanos // 1_000_000


def fact_of(binding: Binding) -> events_pb2.BindingFact:
    terms = binding.terms
    return events_pb2.BindingFact(
        tenant=binding.tenant,
        binding=binding.id,
        number=binding.number,
        pool=terms.pool,
        mode=MODES[terms.mode],
        aggregate_version=binding.version,
        direction=DIRECTIONS[terms.direction],
        max_call_minutes=terms.max_call_minutes,
        expire_time=timestamp(terms.expire_ms),
        industry_id=terms.industry_id,
        lease_epoch=binding.lease_epoch,
        options=shown(terms.options),
        consent_a=consent_name(binding.tenant, binding.consent_a),
        consent_b=consent_name(binding.tenant, binding.consent_b),
        drain_until=timestamp(binding.drain_ms),
        extension=terms.options.extension,
        callee_expire_time=timestamp(terms.options.callee_until_ms),
        second_number=binding.second,
        second_lease_epoch=binding.second_epoch,
    )


def route_of(binding: Binding, copies: Copies, number: str = "") -> events_pb2.Route:
    """The route on one of its numbers, default X."""
    terms = binding.terms
    number = number or binding.number
    epochs = binding.lease_epoch, binding.second_epoch
    own, other = epochs if number == binding.number else epochs[::-1]
    return events_pb2.Route(
        tenant=binding.tenant,
        binding=binding.id,
        number=number,
        version=binding.version,
        mode=MODES[terms.mode],
        state=_STATES[binding.state],
        direction=DIRECTIONS[terms.direction],
        max_call_minutes=terms.max_call_minutes,
        expire_time=timestamp(terms.expire_ms),
        tag_a=binding.tag_a,
        tag_b=binding.tag_b,
        callee_a=sealed(copies.callee_a),
        callee_b=sealed(copies.callee_b),
        pool=terms.pool,
        lease_epoch=own,
        cool_until=timestamp(binding.cool_until_ms),
        release_reason=REASONS[binding.reason],
        industry_id=terms.industry_id,
        options=terms.options.text,
        drain_until=timestamp(binding.drain_ms),
        other_lease_epoch=other,
    )


def state_and_record(record: events_pb2.BindingRecord) -> tuple[bytes, bytes]:
    """The value of the state topic, and the record alone, which are its last octets."""
    value = events_pb2.StateRecord(binding=record).SerializeToString()
    return value, value[_SIZE.match(value).end() :]  # type: ignore[union-attr]


def record_of(
    binding: Binding, route: events_pb2.Route, copies: Copies, order_tag: str = ""
) -> events_pb2.BindingRecord:
    return events_pb2.BindingRecord(
        route=route,
        create_time=timestamp(binding.create_ms),
        update_time=timestamp(binding.update_ms),
        release_time=timestamp(binding.release_ms),
        secrets=sealed(copies.secrets),
        requests=answered_messages(binding.requests),
        cooling_ms=binding.cooling_ms,
        exclusive=binding.exclusive,
        pair_cooling_ms=binding.pair_cooling_ms,
        order_tag=bytes.fromhex(order_tag),
        consent_a=consent_name(binding.tenant, binding.consent_a),
        consent_b=consent_name(binding.tenant, binding.consent_b),
    )


def consent_name(tenant: str, consent: str) -> str:
    """The resource name; empty for none."""
    return f"tenants/{tenant}/consents/{consent}" if consent else ""


def answered_messages(requests: Iterable[Answered]) -> list[events_pb2.AnsweredRequest]:
    """Requests for a record."""
    return [
        events_pb2.AnsweredRequest(
            request_id=each.request_id,
            body_hash=each.body_hash,
            time=timestamp(each.time_ms),
            version=each.version,
        )
        for each in requests
    ]


def answered_of(messages: Iterable[events_pb2.AnsweredRequest]) -> tuple[Answered, ...]:
    """And back."""
    return tuple(
        Answered(each.request_id, each.body_hash, millis(each.time), each.version)
        for each in messages
    )


def sealed(box: Sealed | None) -> sealed_pb2.Sealed | None:
    return sealed_pb2.Sealed(key_id=box.key_id, box=box.box) if box else None
