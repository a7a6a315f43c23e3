"""The rpcs' messages as JSON, for switches that speak no gRPC (proto3 JSON mapping). Pure.

The answer about a call has the fields of RouteCallResponse, and beside them what Kamailio's
`rtjson` reads: `version`, `routing`, `routes`. A refused call has no routes. Refuses to repeat what
was sent in an error. Invariant: whatever octets come become a message or InvalidArgument.
"""

import json
from typing import Any, TypeVar

from axbridge.router.v1 import router_service_pb2
from google.protobuf import json_format
from google.protobuf.message import Message

from services.router.domain import Decision
from services.router.translate import check_batch, response_from
from services.runtime.errors import InvalidArgument

_M = TypeVar("_M", bound=Message)


def parsed(body: bytes) -> Any:
    """The value that a request's body is.

    Raises:
        InvalidArgument: REQUEST_MALFORMED.
    """
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise _malformed() from None


def message_from(value: Any, message: _M) -> _M:
    """The message, filled from the value; a field that it does not know is an error.

    Raises:
        InvalidArgument: REQUEST_MALFORMED.
    """
    try:
        return json_format.ParseDict(value, message)
    except (json_format.Error, ValueError, TypeError, AttributeError, RecursionError):
        raise _malformed() from None


def items_of(value: Any) -> list[Any]:
    """The requests of a batch: `{"requests": […]}`.

    Raises:
        InvalidArgument: REQUEST_MALFORMED, BATCH_SIZE_INVALID.
    """
    items = value.get("requests") if type(value) is dict and len(value) == 1 else None
    if type(items) is not list:
        raise _malformed()
    check_batch(len(items))
    return items


def answer_from(decision: Decision, domain: str) -> dict[str, Any]:
    """The answer about a call; `domain` is the host of the URIs in it."""
    response = response_from(decision)
    answer = form_of(response)
    answer["version"], answer["routing"] = "1.0", "serial"
    answer["routes"] = []
    if response.HasField("connect"):
        answer["routes"].append(_route(response, domain))
    elif response.HasField("transfer"):
        uri = f"sip:{decision.number}@{response.transfer.endpoint}"
        answer["routes"].append({"uri": uri})
    return answer


def form_of(message: Message) -> dict[str, Any]:
    """The message as a JSON object."""
    return json_format.MessageToDict(message)


def octets(answer: Any) -> bytes:
    """The body of an answer."""
    return json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode()


def _route(response: router_service_pb2.RouteCallResponse, domain: str) -> dict[str, Any]:
    """The one route: to the callee, who sees the 700 number, with the mark as its name (R3)."""
    connect = response.connect
    shown = {"uri": f"sip:{connect.display_number}@{domain}"}
    if connect.mark:
        shown["display"] = f'"{connect.mark}"'  # as a quoted string of SIP: it is no ASCII
    headers: dict[str, Any] = {"from": shown}
    route: dict[str, Any] = {"uri": f"sip:{connect.callee.e164}@{domain}", "headers": headers}
    if connect.HasField("ring_timeout"):
        route["fr_inv_timer"] = connect.ring_timeout.seconds * 1000
    return route


def _malformed() -> InvalidArgument:
    return InvalidArgument("REQUEST_MALFORMED", "the request is not its message as JSON")
