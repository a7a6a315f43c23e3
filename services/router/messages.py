"""Between RouteMessage's messages and the domain; the rest of `translate`. Pure, and total alike.

Refuses to repeat a text in an error. Invariant: the one message that carries a recipient's number
is the answer that forwards.
"""

from axbridge.router.v1 import router_service_pb2 as pb

from services.router.domain import Call, Decision
from services.router.texts import MOST_UNITS, Text, units
from services.router.translate import call_from, response_from
from services.runtime.errors import InvalidArgument


def message_from(request: pb.RouteMessageRequest) -> tuple[Call, str]:
    """The message centre's question, and the text.

    Raises:
        InvalidArgument: CALL_INVALID or INVALID_FIELD.
    """
    if not 0 < units(request.text) <= MOST_UNITS:
        raise InvalidArgument("INVALID_FIELD", "empty or too long", field="text")
    as_call = pb.RouteCallRequest(
        call_id=request.message_id, carrier=request.carrier, caller=request.sender,
        dialled=request.dialled, trunk=request.trunk, transferred_by=request.transferred_by,
    )  # fmt: skip
    return call_from(as_call), request.text


def forward_from(decision: Decision, text: Text) -> pb.RouteMessageResponse:
    """The answer to the message centre."""
    found = response_from(decision)
    answer = pb.RouteMessageResponse(view_age=found.view_age, decide_time=found.decide_time)
    if found.HasField("transfer"):
        answer.transfer.CopyFrom(found.transfer)
    elif found.HasField("refuse"):
        answer.refuse.CopyFrom(found.refuse)
    else:
        connect, forward = found.connect, answer.forward
        forward.recipient.CopyFrom(connect.callee)
        forward.display_number = connect.display_number
        forward.text, forward.parts = text.body, text.parts
        forward.encoding = text.encoding  # type: ignore[assignment]
        forward.binding, forward.binding_version = connect.binding, connect.binding_version
    return answer
