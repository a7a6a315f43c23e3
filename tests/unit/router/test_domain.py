"""The numbers of a decision's values are those of the protos, and none of them shows a party."""

from axbridge.binding.v1 import binding_pb2
from axbridge.router.v1 import call_pb2, events_pb2

from services.router.domain import Call, Direction, Kind, Leg, Refusal, Side, Verdict

NUMBER = "700123456780001"


def test_numbers_are_those_of_the_protos() -> None:
    for ours, theirs, prefix in (
        (Refusal, call_pb2.RefusalReason, "REFUSAL_REASON_"),
        (Leg, call_pb2.CallLeg, "CALL_LEG_"),
        (Kind, call_pb2.CallEventKind, "CALL_EVENT_KIND_"),
        (Direction, binding_pb2.CallDirection, "CALL_DIRECTION_"),
        (Side, events_pb2.CallingSide, "CALLING_SIDE_"),
        (Verdict, call_pb2.CallVerdict, "CALL_VERDICT_"),
    ):
        named = {name.removeprefix(prefix): number for name, number in theirs.items()}
        assert {m.name: m.value for m in ours if m.value} == {
            name: number for name, number in named.items() if number
        }


def test_no_number_shows() -> None:
    call = Call("cmcc", "c1", "13812345678", NUMBER, "")
    assert "138" not in repr(call)
