"""Short messages: by the rules of calls, with the mark, and without anybody's number."""

import pytest
from axbridge.router.v1 import call_pb2, events_pb2
from axbridge.router.v1 import router_service_pb2 as pb

from services.router.domain import MARK, Entry, Mode, Refusal, Transfer
from services.router.messages import forward_from, message_from
from services.router.texts import Encoding, text_of
from services.runtime.errors import InvalidArgument, ResourceExhausted
from services.runtime.options import Options
from tests.unit.router.callrecords import EVENTS, record, routed
from tests.unit.router.decisions import decision
from tests.unit.router.test_handlers import BOUND, ENTRY, NUMBER, call, router

BODY = "楼下等你"


def request(**more: object) -> pb.RouteMessageRequest:
    fields = {
        "message_id": "m1", "carrier": "cmcc", "sender": "13812345678", "dialled": NUMBER,
        "text": BODY, **more,
    }  # fmt: skip
    return pb.RouteMessageRequest(**fields)  # type: ignore[arg-type]


def bound(**options: object) -> object:
    return BOUND._replace(entry=ENTRY._replace(options=Options(**options).text))  # type: ignore[arg-type]


def test_a_message_goes_on_with_the_mark_and_is_recorded_without_its_text() -> None:
    handler, _, recorder = router()
    asked, body = message_from(request())
    answer = forward_from(*handler.message(asked, body))
    forward = answer.forward
    assert (forward.recipient.e164, forward.display_number) == ("+8613912345678", NUMBER)
    assert (forward.text, forward.parts) == (MARK + BODY, 1)
    assert forward.encoding == call_pb2.TEXT_ENCODING_UCS2
    assert forward.binding == "tenants/t1/bindings/b1"
    assert answer.HasField("decide_time")
    assert recorder.texts == [(Encoding.UCS2, 1)]
    unmarked, _, _ = router(bound(mark=False))  # type: ignore[arg-type]
    plain = forward_from(*unmarked.message(call(), "ok")).forward
    assert (plain.text, plain.encoding) == ("ok", call_pb2.TEXT_ENCODING_GSM7)


@pytest.mark.parametrize(
    "body", ["我的 138 1234 5678", "你的 139 1234 5678", "一三八一二三四五六七八"]
)
def test_a_text_that_names_a_party_is_refused(body: str) -> None:
    handler, _, _ = router()
    found, text = handler.message(call(), body)
    assert (found.refusal, found.callee) == (Refusal.TEXT_HAS_NUMBER, "")
    answer = forward_from(found, text)
    assert answer.refuse.announcement == "text-refused"
    assert not answer.HasField("forward")


def test_a_binding_may_refuse_messages_and_strangers_have_none() -> None:
    handler, _, _ = router(bound(sms=False))  # type: ignore[arg-type]
    assert handler.message(call(), BODY)[0].refusal is Refusal.MESSAGES_REFUSED
    assert handler.route(call()).refusal is None
    stranger, _, recorder = router(BOUND._replace(entry=None))
    assert stranger.message(call(), BODY)[0].refusal is Refusal.NOT_BOUND
    recorder.full = True
    with pytest.raises(ResourceExhausted):
        stranger.message(call(), BODY)


@pytest.mark.parametrize("entry", [None, ENTRY._replace(mode=Mode.AXE)])
def test_a_number_with_extensions_takes_no_messages(entry: Entry | None) -> None:
    handler, _, _ = router(BOUND._replace(entry=entry, extensions=True))
    assert handler.message(call(), BODY)[0].refusal is Refusal.MESSAGES_REFUSED


def test_another_platforms_message_is_sent_on() -> None:
    there = Transfer("other", "192.0.2.1:5070", ("own",))
    answer = forward_from(decision(Refusal.TRANSFERRED, entry=None, transfer=there), text_of("x"))
    assert (answer.transfer.platform, list(answer.transfer.transferred_by)) == ("other", ["own"])


@pytest.mark.parametrize("text", ["", "a" * 1001, "😀" * 501])
def test_a_text_has_a_length(text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        message_from(request(text=text))
    assert (caught.value.reason, caught.value.metadata["field"]) == ("INVALID_FIELD", "text")
    message_from(request(text="😀" * 500))


def test_a_malformed_message_id_is_a_malformed_call_id() -> None:
    with pytest.raises(InvalidArgument) as caught:
        message_from(request(message_id="a b"))
    assert caught.value.reason == "CALL_INVALID"


def test_the_records_of_calls_pass_messages_over() -> None:
    event = routed("c1")
    assert EVENTS.decode(record(0, event)) is not None
    event.message.CopyFrom(events_pb2.MessageFact(parts=1))
    assert EVENTS.decode(record(0, event)) is None
