"""Requests become questions, or are refused; any request does one of the two."""

import pytest
from axbridge.audit.v1 import audit_service_pb2 as service
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from services.audit.domain import Query
from services.audit.handlers import Found, Inclusion, Page
from services.audit.tracing import Trace, Traced
from services.audit.translate import page, query_of, trace, trace_of
from services.runtime.errors import InvalidArgument
from services.runtime.phone import PhoneNumber
from tests.unit.audit.test_handlers import events


def test_times_round_up_to_the_side_an_event_is_on() -> None:
    request = service.QueryEventsRequest(
        start_time=Timestamp(seconds=1, nanos=1), end_time=Timestamp(seconds=2, nanos=3_000_000)
    )
    query = query_of(request)
    assert (query.start_ms, query.end_ms) == (1001, 2003)
    assert query_of(service.QueryEventsRequest()) == Query()


@pytest.mark.parametrize(
    ("short", "full"),
    [
        ("BindingCreated", "axbridge.binding.v1.BindingCreated"),
        ("ParkedEvent", "axbridge.audit.v1.ParkedEvent"),
        ("some.other.Type", "some.other.Type"),
        ("", ""),
    ],
)
def test_types_have_short_names(short: str, full: str) -> None:
    assert query_of(service.QueryEventsRequest(type=short)).type == full


@pytest.mark.parametrize(
    "time",
    [
        Timestamp(seconds=1 << 60),
        Timestamp(seconds=-(1 << 60)),
        Timestamp(nanos=-1),
        Timestamp(nanos=1_000_000_000),
    ],
)
def test_impossible_times_are_refused(time: Timestamp) -> None:
    with pytest.raises(InvalidArgument):
        query_of(service.QueryEventsRequest(start_time=time))


@given(data=st.binary(max_size=100))
def test_any_request_is_a_question_or_refused(data: bytes) -> None:
    request = service.QueryEventsRequest()
    try:
        request.ParseFromString(data)
    except Exception:
        return
    try:
        query_of(request)
    except InvalidArgument as refused:
        assert refused.reason == "INVALID_FIELD" or refused.reason.startswith("PARTY_NUMBER_")  # noqa: PT017


def test_entries_go_out_as_stored() -> None:
    (event,) = events(1)
    answer = page(Page([Found(7, event.entry)], "next"))
    assert answer.events[0].leaf_index == 7
    assert answer.events[0].entry.SerializeToString(deterministic=True) == event.entry
    assert answer.next_page_token == "next"
    assert not answer.events[0].HasField("proof")


def test_a_trace_is_asked_and_answered() -> None:
    request = service.TraceRequest(number="7", time=Timestamp(seconds=2))
    assert trace_of(request) == ("7", 2000, None)
    request.caller.e164 = "13800138000"
    assert trace_of(request)[2] == PhoneNumber("+8613800138000")
    request.caller.e164 = "+8618"
    with pytest.raises(InvalidArgument, match="PARTY_NUMBER_INVALID"):
        trace_of(request)
    with pytest.raises(InvalidArgument, match="INVALID_FIELD"):
        trace_of(service.TraceRequest(number="7"))
    (event,) = events(1)
    proof = Inclusion(7, 9, b"hash", [b"a"], b"")
    answer = trace(Trace([Traced("taxi", "b1", Found(7, event.entry, proof), "party")], 3, b"note"))
    assert (answer.erased_count, answer.checkpoint) == (3, "note")
    (found,) = answer.bindings
    assert found.binding == "tenants/taxi/bindings/b1"
    assert found.caller_role == service.CALLER_ROLE_PARTY
    assert found.event.proof.tree_size == 9
    assert found.event.entry.SerializeToString(deterministic=True) == event.entry
