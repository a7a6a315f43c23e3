"""Protos to the domain: total, and never repeating what it was given."""

import uuid
from typing import Any

import pytest
from axbridge.binding.v1 import binding_service_pb2 as pb
from axbridge.type.v1.phone_number_pb2 import PhoneNumber
from hypothesis import given
from hypothesis import strategies as st

from services.binding import translate
from services.binding.commands import Create
from services.binding.domain import Reason
from services.binding.messages import millis
from services.runtime.clock import ManualClock
from services.runtime.errors import InvalidArgument
from services.runtime.options import Options
from tests.unit.binding.memory import binding

TEXT = st.text(max_size=70)
BINDING = str(uuid.UUID(int=5))


@given(raw=st.binary(max_size=200), kind=st.sampled_from([
    pb.CreateBindingRequest, pb.UpdateBindingRequest, pb.ReleaseBindingRequest,
    pb.ListBindingsRequest,
]))  # fmt: skip
def test_any_message_is_a_command_or_an_invalid_argument(raw: bytes, kind: Any) -> None:
    request = kind()
    try:
        request.ParseFromString(raw)
    except Exception:
        return  # does not decode: the server's guard refuses it
    read(request)


def read(request: Any) -> object:
    parse: Any = {
        pb.CreateBindingRequest: translate.create,
        pb.UpdateBindingRequest: translate.update,
        pb.ReleaseBindingRequest: translate.release,
        pb.ListBindingsRequest: translate.find,
    }[type(request)]
    try:
        return parse(request)
    except InvalidArgument as error:
        return error.reason


@given(
    parent=st.just("tenants/didi") | TEXT,
    request_id=st.uuids(version=4).map(str) | TEXT,
    pool=st.just("tenants/didi/pools/city") | TEXT,
    a=st.just("+8613512345678") | TEXT,
    b=st.just("13612345678") | TEXT,
    order=st.just("order-1") | TEXT,
    seconds=st.integers(-(2**63), 2**63 - 1) | st.integers(1, 2**32),
    nanos=st.integers(-(2**31), 2**31 - 1) | st.just(0),
    direction=st.integers(-1, 5),
    minutes=st.integers(-1, 1500),
)
def test_what_passes_is_within_every_limit(
    parent: str, request_id: str, pool: str, a: str, b: str, order: str,
    seconds: int, nanos: int, direction: int, minutes: int,
) -> None:  # fmt: skip
    request = pb.CreateBindingRequest(
        parent=parent,
        request_id=request_id,
        pool=pool,
        number_a=PhoneNumber(e164=a),
        number_b=PhoneNumber(e164=b),
        order_id=order,
        industry_id="taxi",
        direction=direction,  # type: ignore[arg-type]
        max_call_minutes=minutes,
    )
    request.expire_time.seconds, request.expire_time.nanos = seconds, nanos
    made = read(request)
    if isinstance(made, str):
        return
    assert isinstance(made, Create)
    assert made.a != made.b
    assert made.terms.pool.startswith(f"tenants/{made.tenant}/pools/")
    assert 0 <= made.terms.max_call_minutes <= 1440
    assert made.terms.expire_ms == seconds * 1000 + nanos // 1_000_000
    assert "\x1f" not in made.terms.order_id


def test_a_life_or_an_expiry_and_options() -> None:
    request = pb.CreateBindingRequest(
        parent="tenants/didi", request_id=str(uuid.uuid4()), pool="tenants/didi/pools/city",
        order_id="o", industry_id="t", number_a=PhoneNumber(e164="+8613512345678"),
        number_b=PhoneNumber(e164="+8613612345678"),
    )  # fmt: skip
    assert read(request) == "INVALID_FIELD"
    request.life.seconds, request.life.nanos = 90, 5_000_000
    request.options.ring_timeout.seconds = 30
    made = read(request)
    assert isinstance(made, Create)
    assert (made.life_ms, made.terms.expire_ms) == (90_005, 0)
    assert made.terms.options == Options(ring_seconds=30)
    request.expire_time.seconds = 2**31
    assert read(request) == "INVALID_FIELD"
    renewal = pb.RenewBindingRequest(name=f"tenants/didi/bindings/{BINDING}")
    with pytest.raises(InvalidArgument, match="call_time"):
        translate.renew(renewal)
    renewal.call_time.seconds = 5
    assert translate.renew(renewal) == ("didi", BINDING, 5000)


@pytest.mark.parametrize("field", ["number_a", "number_b"])
def test_a_refusal_names_the_field_and_shows_no_digit(field: str) -> None:
    parties = {"number_a": "+8613512345678", "number_b": "+8613612345678", field: "13512345x"}
    request = pb.CreateBindingRequest(
        parent="tenants/didi",
        request_id=str(uuid.uuid4()),
        pool="tenants/didi/pools/city",
        order_id="o",
        industry_id="t",
        number_a=PhoneNumber(e164=parties["number_a"]),
        number_b=PhoneNumber(e164=parties["number_b"]),
    )
    request.expire_time.seconds = 2**31
    with pytest.raises(InvalidArgument) as caught:
        translate.create(request)
    assert str(caught.value) == f"PARTY_NUMBER_INVALID field={field}"


def test_a_resource_holds_what_was_asked_for_and_no_tag() -> None:
    clock = ManualClock()
    made = binding(clock, BINDING)
    shown = translate.resource(made)
    assert translate.name(shown.name) == ("didi", BINDING)
    assert (shown.order_id, shown.customer_data) == ("order-1", b"data")
    assert millis(shown.expire_time) == made.terms.expire_ms
    assert not shown.HasField("release_time")
    ended = translate.resource(made.released(clock.epoch_ms(), Reason.EXPIRED))
    assert ended.release_reason == Reason.EXPIRED.value
    assert made.tag_a not in ended.SerializeToString()
