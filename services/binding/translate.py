"""Protos to the domain and back. Pure and total: any message gives a value or InvalidArgument.

Refuses to repeat in an error what a request held. Invariant: what leaves here as a resource holds
no real number: a Binding has no field for one.
"""

import re
from dataclasses import replace
from typing import Final

from axbridge.binding.v1 import binding_pb2, binding_service_pb2
from google.protobuf.timestamp_pb2 import Timestamp

from services.binding import choices
from services.binding.commands import Create, Find, Name, Update, Upgrade
from services.binding.domain import Binding, Direction, Mode, Terms
from services.binding.fields import (
    CODE,
    CONTROL,
    POOL,
    SEGMENT,
    TENANT,
    UUID,
    YEAR_10000,
    invalid,
    matched,
    page_size,
)
from services.binding.messages import (
    DIRECTIONS,
    MODES,
    REASONS,
    consent_name,
    millis,
    timestamp,
)
from services.runtime import selectionwire
from services.runtime.errors import InvalidArgument
from services.runtime.ids import request_id
from services.runtime.options import NONE
from services.runtime.phone import PhoneNumber, is_middle_number, parse_party

_NAME: Final = re.compile(rf"tenants/({SEGMENT})/bindings/({UUID})", re.ASCII)
_LONGEST_ORDER: Final = 64
_LONGEST_DATA: Final = 512
_EXTENSION_DIGITS: Final = 4
_LONGEST_CALL: Final = 1440
_STATES: Final = {
    True: binding_pb2.BINDING_STATE_ACTIVE,
    False: binding_pb2.BINDING_STATE_RELEASED,
}
_MODES: Final = {0: Mode.AXB, **{each.value: each for each in Mode}}
_DIRECTIONS: Final = {0: Direction.BOTH, **{each.value: each for each in Direction}}


def create(request: binding_service_pb2.CreateBindingRequest) -> Create:
    """Raises InvalidArgument: REQUEST_ID_INVALID, PARTY_NUMBER_…, PARTIES_EQUAL, EXPIRY_PAST, those
    of `choices.read` and `selectionwire.read`, INVALID_FIELD."""
    tenant = matched(TENANT, request.parent, "parent")[1]
    identity = request_id(request.request_id)
    if matched(POOL, request.pool, "pool")[1] != tenant:
        invalid("pool")
    _order(request.order_id)
    matched(CODE, request.industry_id, "industry_id")
    direction = _DIRECTIONS.get(request.direction)
    if direction is None:
        invalid("direction")
    if not 0 <= request.max_call_minutes <= _LONGEST_CALL:
        invalid("max_call_minutes")
    if len(request.customer_data) > _LONGEST_DATA:
        invalid("customer_data")
    expire, life_ms = 0, _life(request)
    if not life_ms:
        expire = _expiry(request.HasField("expire_time"), request.expire_time)
    mode = _MODES.get(request.mode)
    if mode is None:
        invalid("mode")
    options = choices.read(request.options, direction) if request.HasField("options") else NONE
    choices.check_mode(request.options, mode)
    if mode is Mode.AXE:
        options = replace(options, sms=False)
    a = parse_party(request.number_a.e164, "number_a")
    b = _party_b(request, mode)
    if a == b:
        raise InvalidArgument("PARTIES_EQUAL", "A and B are the same number")
    return Create(
        tenant,
        identity,
        a,
        b,
        Terms(
            pool=request.pool,
            order_id=request.order_id,
            industry_id=request.industry_id,
            expire_ms=expire,
            direction=direction,
            max_call_minutes=request.max_call_minutes,
            customer_data=request.customer_data,
            options=options,
            mode=mode,
        ),
        life_ms,
        _extension_digits(request, mode),
        selectionwire.read(request.selection, "selection"),
    )


def _party_b(request: binding_service_pb2.CreateBindingRequest, mode: Mode) -> PhoneNumber | None:
    if mode in (Mode.AXB, Mode.AXYB):
        return parse_party(request.number_b.e164, "number_b")
    if request.HasField("number_b"):
        raise InvalidArgument("NOT_FOR_MODE", "the mode has no B", field="number_b")
    return None


def _extension_digits(request: binding_service_pb2.CreateBindingRequest, mode: Mode) -> int:
    digits = request.extension_digits
    if mode is not Mode.AXE:
        if digits:
            raise InvalidArgument("NOT_FOR_MODE", "it has no extension", field="extension_digits")
        return 0
    if not 0 <= digits <= _EXTENSION_DIGITS:
        invalid("extension_digits")
    return digits or _EXTENSION_DIGITS


def update(request: binding_service_pb2.UpdateBindingRequest) -> Update:
    """Raises InvalidArgument: REQUEST_ID_INVALID, EXPIRY_PAST, INVALID_FIELD."""
    tenant, binding = name(request.name)
    if request.version < 1:
        invalid("version")
    expire = _expiry(request.HasField("expire_time"), request.expire_time)
    return Update(tenant, binding, request_id(request.request_id), request.version, expire)


def name_callee(request: binding_service_pb2.SetTemporaryCalleeRequest) -> Name:
    """Raises InvalidArgument: REQUEST_ID_INVALID, PARTY_NUMBER_…, INVALID_FIELD."""
    tenant, binding = name(request.name)
    callee = parse_party(request.callee.e164, "callee") if request.HasField("callee") else None
    return Name(tenant, binding, request_id(request.request_id), callee)


def upgrade(request: binding_service_pb2.UpgradeBindingRequest) -> Upgrade:
    """Raises InvalidArgument: REQUEST_ID_INVALID, PARTY_NUMBER_…, INVALID_FIELD."""
    tenant, binding = name(request.name)
    if request.version < 1:
        invalid("version")
    b = parse_party(request.number_b.e164, "number_b")
    return Upgrade(tenant, binding, request_id(request.request_id), request.version, b)


def renew(request: binding_service_pb2.RenewBindingRequest) -> tuple[str, str, int]:
    """Tenant, binding and the call's time. Raises InvalidArgument: EXPIRY_PAST, INVALID_FIELD."""
    tenant, binding = name(request.name)
    return tenant, binding, _moment(request.HasField("call_time"), request.call_time, "call_time")


def release(request: binding_service_pb2.ReleaseBindingRequest) -> tuple[str, str, int]:
    """Tenant, binding and version (0: any). Raises InvalidArgument: INVALID_FIELD."""
    tenant, binding = name(request.name)
    if request.version < 0:
        invalid("version")
    return tenant, binding, request.version


def find(request: binding_service_pb2.ListBindingsRequest) -> Find:
    """Raises InvalidArgument: NUMBER_INVALID, PARTY_NUMBER_…, INVALID_FIELD."""
    tenant = matched(TENANT, request.parent, "parent")[1]
    limit = page_size(request.page_size)
    kind: str | None = request.WhichOneof("filter")
    by: str | PhoneNumber
    if kind == "order_id":
        by, kind = _order(request.order_id), "order"
    elif kind == "number":
        by = request.number.removeprefix("numbers/")
        if not request.number.startswith("numbers/") or not is_middle_number(by):
            raise InvalidArgument("NUMBER_INVALID", "not a number of the 700 range")
    elif kind == "party":
        by = parse_party(request.party.e164, "party")
    else:
        invalid("filter")
    return Find(tenant, by, kind, limit, request.page_token)


def tenant(parent: str) -> str:
    """The tenant of a `parent`. Raises InvalidArgument: INVALID_FIELD."""
    return matched(TENANT, parent, "parent")[1]


def name(text: str) -> tuple[str, str]:
    """Tenant and binding id of a resource name. Raises InvalidArgument: INVALID_FIELD."""
    found = matched(_NAME, text, "name")
    return found[1], found[2]


def resource(binding: Binding) -> binding_pb2.Binding:
    """The binding as answered."""
    terms = binding.terms
    return binding_pb2.Binding(
        name=f"tenants/{binding.tenant}/bindings/{binding.id}",
        number=f"numbers/{binding.number}",
        pool=terms.pool,
        mode=MODES[terms.mode],
        state=_STATES[binding.live],
        release_reason=REASONS[binding.reason],
        order_id=terms.order_id,
        industry_id=terms.industry_id,
        direction=DIRECTIONS[terms.direction],
        max_call_minutes=terms.max_call_minutes,
        expire_time=timestamp(terms.expire_ms),
        create_time=timestamp(binding.create_ms),
        update_time=timestamp(binding.update_ms),
        release_time=timestamp(binding.release_ms),
        version=binding.version,
        customer_data=terms.customer_data,
        options=choices.shown(terms.options),
        consent_a=consent_name(binding.tenant, binding.consent_a),
        consent_b=consent_name(binding.tenant, binding.consent_b),
        drain_until=timestamp(binding.drain_ms),
        second_number=f"numbers/{binding.second}" if binding.second else "",
        extension=terms.options.extension,
        callee_expire_time=timestamp(terms.options.callee_until_ms),
    )


def _order(text: str) -> str:
    if not 1 <= len(text) <= _LONGEST_ORDER or CONTROL.search(text):
        invalid("order_id")
    return text


def _expiry(given: bool, time: Timestamp) -> int:
    ms = _moment(given, time, "expire_time")
    if time.seconds <= 0:  # before any clock; also keeps 0 for "not yet"
        raise InvalidArgument("EXPIRY_PAST", "expire_time lies in the past")
    return ms


def _moment(given: bool, time: Timestamp, field: str) -> int:
    if not given or not 0 <= time.nanos < 1_000_000_000 or abs(time.seconds) >= YEAR_10000:
        invalid(field)
    return millis(time)


def _life(request: binding_service_pb2.CreateBindingRequest) -> int:
    """The relative expiry in milliseconds, 0 where there is none."""
    span = request.life
    if not request.HasField("life"):
        return 0
    if request.HasField("expire_time") or not 0 <= span.nanos < 1_000_000_000:
        invalid("life")
    if not 0 < span.seconds < YEAR_10000:
        invalid("life")
    return span.seconds * 1000 + span.nanos // 1_000_000
