"""JSON as a switch sends and reads it: total, exact, and nothing repeated."""

import contextlib
import json
from typing import Any

import pytest
from axbridge.router.v1 import router_service_pb2 as rpc
from hypothesis import given
from hypothesis import strategies as st

from services.router.domain import MARK, Refusal, Transfer
from services.router.jsonform import answer_from, items_of, message_from, octets, parsed
from services.runtime.errors import InvalidArgument
from services.runtime.options import Options
from tests.unit.router.decisions import decision
from tests.unit.router.test_handlers import BOUND, ENTRY, NUMBER, call, router

REQUEST = {"callId": "c1", "carrier": "cmcc", "caller": "13812345678", "dialled": NUMBER}
JUNK = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=9,
)


def test_a_connected_call_has_the_answer_and_one_route_for_rtjson() -> None:
    handler, _, _ = router()
    answer = json.loads(octets(answer_from(handler.route(call()), "example.org")))
    assert answer["connect"]["callee"] == {"e164": "+8613912345678"}
    assert answer["connect"]["displayNumber"] == NUMBER
    assert (answer["version"], answer["routing"]) == ("1.0", "serial")
    shown = {"uri": f"sip:{NUMBER}@example.org", "display": f'"{MARK}"'}
    assert answer["routes"] == [
        {"uri": "sip:+8613912345678@example.org", "headers": {"from": shown}}
    ]


def test_a_ring_time_out_is_the_routes_timer() -> None:
    entry = ENTRY._replace(options=Options(ring_seconds=25).text)
    handler, _, _ = router(BOUND._replace(entry=entry))
    [route] = answer_from(handler.route(call()), "example.org")["routes"]
    assert route["fr_inv_timer"] == 25_000


def test_a_call_that_is_sent_on_has_the_other_platforms_route() -> None:
    there = Transfer("other", "192.0.2.1:5070", ("own",))
    sent_on = decision(Refusal.TRANSFERRED, entry=None, transfer=there)
    answer = answer_from(sent_on, "example.org")
    assert answer["transfer"]["transferredBy"] == ["own"]
    assert answer["routes"] == [{"uri": f"sip:{NUMBER}@192.0.2.1:5070"}]
    assert "refuse" not in answer


def test_a_refused_call_has_no_route() -> None:
    handler, _, _ = router(BOUND._replace(entry=None))
    answer = answer_from(handler.route(call()), "example.org")
    assert answer["routes"] == []
    assert answer["refuse"]["reason"] == "REFUSAL_REASON_NOT_BOUND"
    assert answer["refuse"]["q850Cause"] == 21


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000, b'{"a": 1}}'])
def test_what_is_no_json_is_malformed(body: bytes) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parsed(body)
    assert caught.value.reason == "REQUEST_MALFORMED"


@given(JUNK)
def test_any_value_is_a_message_or_malformed(value: Any) -> None:
    for message in (rpc.RouteCallRequest(), rpc.ReportCallEventRequest()):
        with contextlib.suppress(InvalidArgument):
            message_from(value, message)


def test_both_spellings_of_a_field_are_read_and_an_unknown_one_is_not() -> None:
    snake = {"call_id": "c1", "carrier": "cmcc", "caller": "13812345678", "dialled": NUMBER}
    assert message_from(snake, rpc.RouteCallRequest()) == message_from(
        REQUEST, rpc.RouteCallRequest()
    )
    with pytest.raises(InvalidArgument) as caught:
        message_from({**REQUEST, "calller": "13812345678"}, rpc.RouteCallRequest())
    assert "13812345678" not in repr(caught.value)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([], "REQUEST_MALFORMED"),
        ({}, "REQUEST_MALFORMED"),
        ({"requests": {}}, "REQUEST_MALFORMED"),
        ({"requests": [1], "more": 1}, "REQUEST_MALFORMED"),
        ({"requests": []}, "BATCH_SIZE_INVALID"),
        ({"requests": [1] * 1001}, "BATCH_SIZE_INVALID"),
    ],
)
def test_a_batch_is_one_to_a_thousand_requests(value: Any, reason: str) -> None:
    assert len(items_of({"requests": [1] * 1000})) == 1000
    with pytest.raises(InvalidArgument) as caught:
        items_of(value)
    assert caught.value.reason == reason
