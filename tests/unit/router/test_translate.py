"""Requests in, answers out: total, and checked."""

import re

import pytest
from axbridge.router.v1 import call_pb2
from axbridge.router.v1 import router_service_pb2 as rpc
from hypothesis import given
from hypothesis import strategies as st

from services.router.domain import Progress, Refusal, Side
from services.router.handlers import Router
from services.router.ports import Found
from services.router.servicer import RouterServicer
from services.router.translate import (
    call_from,
    explanation_from,
    progress_from,
    response_from,
    time_from,
    timestamp,
)
from services.runtime.clock import ManualClock
from services.runtime.errors import InvalidArgument
from services.runtime.metrics import Metrics
from tests.unit.router.decisions import ENTRY, NOW, NUMBER, A, B, decision
from tests.unit.router.test_handlers import MemoryOpener, MemoryRecorder, MemoryRoutes


def test_answers() -> None:
    connect = response_from(decision()).connect
    assert (connect.callee.e164, connect.display_number, connect.mark) == (
        B,
        NUMBER,
        "【号码保护】",
    )
    assert connect.max_duration.seconds == 1800
    assert connect.binding == "tenants/t1/bindings/b1"
    answer = response_from(decision(Refusal.DIRECTION))
    assert not answer.HasField("connect")
    assert (answer.refuse.reason, answer.refuse.q850_cause) == (8, 21)
    assert answer.refuse.announcement == "wrong-direction"
    assert answer.view_age.nanos == 250_000_000
    assert answer.decide_time.seconds == NOW // 1000


def test_explanations_name_the_binding_and_sides_and_nobodys_number() -> None:
    explained = explanation_from(decision())
    assert (explained.tenant, explained.binding) == ("tenants/t1", "tenants/t1/bindings/b1")
    assert (explained.binding_version, explained.caller_side, explained.callee_side) == (3, 1, 2)
    assert explained.expire_time == timestamp(NOW + 1000)
    assert explained.answer.connect.display_number == NUMBER
    assert (A[3:] in str(explained), B[3:] in str(explained)) == (False, False)
    refused = explanation_from(
        decision(Refusal.DIRECTION, entry=ENTRY._replace(caller_side=Side.B))
    )
    assert (int(refused.answer.refuse.reason), int(refused.callee_side)) == (8, 1)
    stranger = explanation_from(
        decision(Refusal.NOT_BOUND, entry=ENTRY._replace(caller_side=Side.UNKNOWN))
    )
    assert (stranger.tenant, stranger.binding, stranger.callee_side) == ("tenants/t1", "", 0)
    foreign = explanation_from(decision(Refusal.BLOCK_FOREIGN, entry=None, tenant=""))
    assert foreign.tenant == ""


def test_the_time_of_an_explanation() -> None:
    assert time_from(rpc.ExplainRouteRequest()) is None
    assert time_from(rpc.ExplainRouteRequest(time=timestamp(NOW))) == NOW
    with pytest.raises(InvalidArgument, match="INVALID_FIELD field=time"):
        time_from(rpc.ExplainRouteRequest(time=timestamp(0)))


def test_answers_with_options() -> None:
    options = "ring_seconds=30;recording=a1,a2,b1,b2;mark=0"
    for side, codes in ((Side.A, ("a1", "a2")), (Side.B, ("b1", "b2"))):
        connect = response_from(
            decision(entry=ENTRY._replace(options=options, caller_side=side))
        ).connect
        assert connect.ring_timeout.seconds == 30
        assert (connect.caller_announcement, connect.callee_announcement) == codes
        assert (connect.recording, connect.mark) == (call_pb2.RECORDING_ON, "")
    assert response_from(decision()).connect.recording == call_pb2.RECORDING_OFF
    stranger = ENTRY._replace(options="stranger=closed;stranger_play=1", caller_side=Side.UNKNOWN)
    refuse = response_from(decision(Refusal.NOT_BOUND, entry=stranger)).refuse
    assert (refuse.q850_cause, refuse.announcement) == (16, "closed")
    assert refuse.treatment == call_pb2.REFUSAL_TREATMENT_PLAY_AND_RELEASE


def test_an_extension_is_collected_and_brought_back() -> None:
    answer = response_from(decision(Refusal.EXTENSION_NEEDED, entry=None))
    assert (answer.collect.announcement, answer.collect.max_digits) == ("dial-extension", 4)
    assert not answer.HasField("refuse")
    request = rpc.RouteCallRequest(call_id="c", carrier="cmcc", extension="12#")
    assert call_from(request).extension == "12#"
    for wrong in ("x", "1" * 17, " "):
        request.extension = wrong
        with pytest.raises(InvalidArgument, match="CALL_INVALID field=extension"):
            call_from(request)


@given(st.tuples(st.text(), st.text(), st.text(), st.text(), st.text()))
def test_any_request_is_a_call_or_refused(texts: tuple[str, ...]) -> None:
    call_id, carrier, caller, dialled, trunk = (t.encode(errors="ignore").decode() for t in texts)
    request = rpc.RouteCallRequest(
        call_id=call_id, carrier=carrier, caller=caller, dialled=dialled, trunk=trunk
    )
    try:
        answer = call_from(request).call_id
    except InvalidArgument as error:
        answer = error.reason
    assert answer in (call_id, "CALL_INVALID")


@given(
    st.text(st.characters(max_codepoint=255), max_size=4) | st.sampled_from(["x" * 128, "x" * 129])
)
def test_a_call_id_is_printable_ascii(call_id: str) -> None:
    request = rpc.RouteCallRequest(call_id=call_id, carrier="c")
    if re.fullmatch("[!-~]{1,128}", call_id):
        assert call_from(request).call_id == call_id
    else:
        with pytest.raises(InvalidArgument, match="CALL_INVALID field=call_id"):
            call_from(request)


@pytest.mark.parametrize(
    ("field", "value"),
    [("leg", 0), ("leg", 3), ("kind", 0), ("kind", 9), ("sequence", 0), ("q850_cause", 128),
     ("release_side", 4), ("q850_cause", -1)],
)  # fmt: skip
def test_reports_are_checked(field: str, value: int) -> None:
    good = rpc.ReportCallEventRequest(
        call_id="c1", carrier="cmcc", leg=1, sequence=1, kind=3, event_time=timestamp(NOW)  # type: ignore[arg-type]
    )  # fmt: skip
    assert progress_from(good) == Progress("cmcc", "c1", 1, 1, 3, NOW, 0, 0)
    setattr(good, field, value)
    with pytest.raises(InvalidArgument, match=f"INVALID_FIELD field={field}"):
        progress_from(good)


def test_a_report_needs_its_time() -> None:
    request = rpc.ReportCallEventRequest(call_id="c1", carrier="cmcc", leg=1, sequence=1, kind=3)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="event_time"):
        progress_from(request)


def test_the_servicer_counts_by_reason() -> None:
    metrics = Metrics("router")
    routes = MemoryRoutes(Found((), "", b"", None))
    handler = Router(routes, MemoryOpener(), MemoryRecorder(), ManualClock(), 900_000)
    servicer = RouterServicer(handler, metrics)
    request = rpc.RouteCallRequest(call_id="1", carrier="c", dialled=NUMBER)
    answer = rpc.RouteCallResponse.FromString(servicer.RouteCall(request, None))
    assert answer.refuse.reason == call_pb2.REFUSAL_REASON_BLOCK_FOREIGN
    servicer.flush()
    sample = metrics.registry.get_sample_value(
        "router_decisions_total", {"reason": "BLOCK_FOREIGN"}
    )
    assert sample == 1


def test_of_many_carriers_each_is_checked() -> None:
    for number in range(200):
        request = rpc.RouteCallRequest(call_id="c1", carrier=f"carrier-{number}")
        assert call_from(request).carrier == request.carrier
    for carrier in ("", "CMCC", "x" * 33):
        with pytest.raises(InvalidArgument, match="CALL_INVALID"):
            call_from(rpc.RouteCallRequest(call_id="c1", carrier=carrier))
