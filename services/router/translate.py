"""Between the rpc's messages and the domain. Pure, and total: whatever decodes as a request becomes
a value or InvalidArgument. Refuses to repeat a caller's or dialled digits in an error.
"""

import re
from typing import Final, NoReturn

from axbridge.router.v1 import call_pb2, router_service_pb2
from axbridge.type.v1.phone_number_pb2 import PhoneNumber
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from services.router.domain import MARK, TREATMENT, Call, Decision, Kind, Leg, Progress
from services.runtime.errors import InvalidArgument

_CARRIER: Final = re.compile(r"[a-z0-9-]{1,32}", re.ASCII).fullmatch
_CALL_ID: Final = re.compile(r"[!-~]{1,128}", re.ASCII).fullmatch
_TRUNK: Final = re.compile(r"[!-~]{0,64}", re.ASCII).fullmatch
_LEGS: Final = frozenset[int](Leg)
_KINDS: Final = frozenset[int](Kind)
_YEAR_2000: Final = 946_684_800
_YEAR_2100: Final = 4_102_444_800

_Connect, _Refuse = call_pb2.Connect, call_pb2.Refuse
_Response = router_service_pb2.RouteCallResponse


def call_from(request: router_service_pb2.RouteCallRequest) -> Call:
    """The switch's question.

    Raises:
        InvalidArgument: CALL_INVALID.
    """
    carrier, call_id, trunk = request.carrier, request.call_id, request.trunk
    _check_call(carrier, call_id)
    if _TRUNK(trunk) is None:
        _invalid("trunk")
    return Call(carrier, call_id, request.caller, request.dialled, trunk)


def progress_from(request: router_service_pb2.ReportCallEventRequest) -> Progress:
    """The switch's report.

    Raises:
        InvalidArgument: CALL_INVALID or INVALID_FIELD.
    """
    _check_call(request.carrier, request.call_id)
    if request.leg not in _LEGS:
        _invalid_field("leg")
    if request.sequence < 1:
        _invalid_field("sequence")
    if request.kind not in _KINDS:
        _invalid_field("kind")
    when = request.event_time
    if not (_YEAR_2000 <= when.seconds < _YEAR_2100 and 0 <= when.nanos < 1_000_000_000):
        _invalid_field("event_time")
    if not 0 <= request.q850_cause <= 127:
        _invalid_field("q850_cause")
    if not 0 <= request.release_side <= 3:
        _invalid_field("release_side")
    return Progress(
        request.carrier, request.call_id, request.leg, request.sequence, request.kind,
        when.seconds * 1000 + when.nanos // 1_000_000, request.q850_cause, request.release_side,
    )  # fmt: skip


def response_from(decision: Decision) -> router_service_pb2.RouteCallResponse:
    """The answer to the switch: the only message that carries a callee's number."""
    age, time = duration(decision.age_ms), timestamp(decision.time_ms)
    refusal, entry = decision.refusal, decision.entry
    if refusal is not None or entry is None:
        reason = refusal or 0
        cause, announcement = TREATMENT[refusal] if refusal else (41, "try-later")
        refuse = _Refuse(reason=reason, q850_cause=cause, announcement=announcement)  # type: ignore[arg-type]
        return _Response(refuse=refuse, view_age=age, decide_time=time)
    limit = Duration(seconds=60 * entry.max_call_minutes) if entry.max_call_minutes else None
    connect = _Connect(
        callee=PhoneNumber(e164=decision.callee),
        display_number=decision.number,
        mark=MARK,
        max_duration=limit,
        recording=call_pb2.RECORDING_OFF,
        binding=f"tenants/{entry.tenant}/bindings/{entry.binding}",
        binding_version=entry.version,
    )
    return _Response(connect=connect, view_age=age, decide_time=time)


def _check_call(carrier: str, call_id: str) -> None:
    if _CARRIER(carrier) is None:
        _invalid("carrier")
    if _CALL_ID(call_id) is None:
        _invalid("call_id")


def _invalid(field: str) -> NoReturn:
    raise InvalidArgument("CALL_INVALID", "malformed", field=field)


def _invalid_field(field: str) -> NoReturn:
    raise InvalidArgument("INVALID_FIELD", "missing, malformed or out of range", field=field)


def timestamp(time_ms: int) -> Timestamp:
    """Milliseconds since 1970 as a Timestamp."""
    seconds, ms = divmod(time_ms, 1000)
    return Timestamp(seconds=seconds, nanos=ms * 1_000_000)


def duration(span_ms: int) -> Duration:
    """Milliseconds as a Duration."""
    seconds, ms = divmod(span_ms, 1000)
    return Duration(seconds=min(seconds, 315_576_000_000), nanos=ms * 1_000_000)
