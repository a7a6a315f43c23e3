"""Between the rpc's messages and the domain. Pure, and total: whatever decodes as a request becomes
a value or InvalidArgument. Refuses to repeat a caller's or dialled digits in an error.

Messages on a call's path are filled field by field: that takes a third of the time of making each
part by its constructor, which copies it into the whole.
"""

import re
from collections.abc import Sequence
from typing import Any, Final, NoReturn

from axbridge.router.v1 import call_pb2, router_service_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from services.router.directory import Platform
from services.router.domain import (
    MARK,
    Call,
    Decision,
    Entry,
    Kind,
    Leg,
    Mode,
    Progress,
    Refusal,
    Side,
)
from services.router.rule import EXTENSION_DIGITS, TREATMENT, options_of, treatment
from services.runtime.errors import InvalidArgument

_CARRIER: Final = re.compile(r"[a-z0-9-]{1,32}", re.ASCII).fullmatch
_CALL_ID: Final = re.compile(r"[!-~]{1,128}", re.ASCII).fullmatch
_TRUNK: Final = re.compile(r"[!-~]{0,64}", re.ASCII).fullmatch
_DIALLED_ON: Final = re.compile(r"[0-9*#]{1,16}", re.ASCII).fullmatch
_LEGS: Final = frozenset[int](Leg)
_KINDS: Final = frozenset[int](Kind)
MOST_ITEMS: Final = 1000  # of a batch
_YEAR_2000: Final = 946_684_800
_YEAR_2100: Final = 4_102_444_800

_new: Final = tuple.__new__  # without the detour over a named tuple's own
_LEARNT: Final = 1024
_carriers: set[str] = set()  # well-formed ones that asked before
_trunks: set[str] = set()  # likewise
_MOST_PATH: Final = 8
_RECORDING_OFF: Final = call_pb2.RECORDING_OFF
_ANNOUNCE: Final = call_pb2.REFUSAL_TREATMENT_ANNOUNCE
_PLAY: Final = call_pb2.REFUSAL_TREATMENT_PLAY_AND_RELEASE
_Response: Final = router_service_pb2.RouteCallResponse


def call_from(request: router_service_pb2.RouteCallRequest) -> Call:
    """The switch's question.

    Raises:
        InvalidArgument: CALL_INVALID.
    """
    carrier, call_id, trunk = request.carrier, request.call_id, request.trunk
    if carrier not in _carriers:
        _learn(_carriers, _CARRIER, carrier, "carrier")
    if trunk not in _trunks:
        _learn(_trunks, _TRUNK, trunk, "trunk")
    # _CALL_ID, without the pattern's machinery
    if not (call_id.isascii() and call_id.isprintable() and 0 < len(call_id) <= 128) or (
        " " in call_id
    ):
        _invalid("call_id")
    path, extension = request.transferred_by, request.extension
    transferred_by = _path_from(path) if path else ()
    if extension and _DIALLED_ON(extension) is None:
        _invalid("extension")
    caller, dialled = request.caller, request.dialled
    return _new(Call, (carrier, call_id, caller, dialled, trunk, transferred_by, extension))


def _path_from(path: Sequence[str]) -> tuple[str, ...]:
    if len(path) > _MOST_PATH or not all(map(_CARRIER, path)):
        _invalid("transferred_by")
    return tuple(path)


def check_batch(items: int) -> None:
    """Whether a batch may have so many items. Raises InvalidArgument: BATCH_SIZE_INVALID."""
    if not 0 < items <= MOST_ITEMS:
        raise InvalidArgument("BATCH_SIZE_INVALID", limit=str(MOST_ITEMS))


def progress_from(request: router_service_pb2.ReportCallEventRequest) -> Progress:
    """The switch's report.

    Raises:
        InvalidArgument: CALL_INVALID or INVALID_FIELD.
    """
    _check_call(request.carrier, request.call_id)
    if request.leg not in _LEGS:
        invalid_field("leg")
    if request.sequence < 1:
        invalid_field("sequence")
    if request.kind not in _KINDS:
        invalid_field("kind")
    event_ms = time_ms_from(request.event_time, "event_time")
    if not 0 <= request.q850_cause <= 127:
        invalid_field("q850_cause")
    if not 0 <= request.release_side <= 3:
        invalid_field("release_side")
    return Progress(
        request.carrier, request.call_id, request.leg, request.sequence, request.kind,
        event_ms, request.q850_cause, request.release_side,
    )  # fmt: skip


def response_from(decision: Decision) -> router_service_pb2.RouteCallResponse:
    """The answer to the switch: the only message that carries a callee's number."""
    answer = _Response()
    write_duration(answer.view_age, decision.age_ms)
    write_timestamp(answer.decide_time, decision.time_ms)
    refusal, entry = decision.refusal, decision.entry
    if decision.transfer is not None:
        transfer = answer.transfer
        transfer.platform, transfer.endpoint, path = decision.transfer
        transfer.transferred_by.extend(path)
        return answer
    if refusal is Refusal.EXTENSION_NEEDED:
        answer.collect.announcement = TREATMENT[refusal][1]
        answer.collect.max_digits = EXTENSION_DIGITS
        return answer
    if refusal is not None or entry is None:
        refuse = answer.refuse
        refuse.reason = refusal or 0  # type: ignore[assignment]
        meets = treatment(refusal or Refusal.KEY_UNAVAILABLE, entry)
        refuse.q850_cause, refuse.announcement = meets.cause, meets.announcement
        refuse.treatment = _PLAY if meets.play else _ANNOUNCE
        return answer
    connect = answer.connect
    connect.callee.e164 = decision.callee
    connect.display_number = decision.number
    connect.mark = MARK
    if entry.max_call_minutes:
        connect.max_duration.seconds = 60 * entry.max_call_minutes
    connect.recording = _RECORDING_OFF
    connect.binding = f"tenants/{entry.tenant}/bindings/{entry.binding}"
    connect.binding_version = entry.version
    if entry.options:
        _write_options(connect, entry)
    return answer


def time_from(request: router_service_pb2.ExplainRouteRequest) -> int | None:
    """The time that was asked for, in ms since 1970; None for now.

    Raises:
        InvalidArgument: INVALID_FIELD.
    """
    return time_ms_from(request.time, "time") if request.HasField("time") else None


def explanation_from(decision: Decision) -> router_service_pb2.ExplainRouteResponse:
    """The answer to an operator, without a party's number."""
    answer = response_from(decision._replace(callee=""))
    explained = router_service_pb2.ExplainRouteResponse(answer=answer)
    if decision.tenant:
        explained.tenant = f"tenants/{decision.tenant}"
    entry = decision.entry
    if entry is None or (not entry.caller_side and entry.mode == Mode.AXB):
        return explained
    explained.binding = f"tenants/{entry.tenant}/bindings/{entry.binding}"
    explained.binding_version = entry.version
    explained.caller_side = entry.caller_side  # type: ignore[assignment]
    explained.callee_side = Side.B if entry.caller_side == Side.A else Side.A  # type: ignore[assignment]
    write_timestamp(explained.expire_time, entry.expire_ms)
    return explained


def _write_options(connect: call_pb2.Connect, entry: Entry) -> None:
    options = options_of(entry)
    assert options is not None  # else it was refused
    if options.numbers:
        connect.display_number = options.other(connect.display_number)
    if not options.mark:
        connect.mark = ""
    if options.ring_seconds:
        connect.ring_timeout.seconds = options.ring_seconds
    if options.recording is not None:
        a, b = options.recording[:2], options.recording[2:]
        connect.recording = call_pb2.RECORDING_ON
        connect.caller_announcement, connect.callee_announcement = (
            a if entry.caller_side == Side.A else b
        )


def _learn(known: set[str], pattern: Any, text: str, field: str) -> None:
    if pattern(text) is None:
        _invalid(field)
    if len(known) < _LEARNT:  # beyond, each is checked anew
        known.add(text)


def _check_call(carrier: str, call_id: str) -> None:
    if _CARRIER(carrier) is None:
        _invalid("carrier")
    if _CALL_ID(call_id) is None:
        _invalid("call_id")


def _invalid(field: str) -> NoReturn:
    raise InvalidArgument("CALL_INVALID", "malformed", field=field)


def time_ms_from(when: Timestamp, field: str) -> int:
    """A request's time in ms since 1970. Raises InvalidArgument: INVALID_FIELD."""
    if not (_YEAR_2000 <= when.seconds < _YEAR_2100 and 0 <= when.nanos < 1_000_000_000):
        invalid_field(field)
    return milliseconds(when)


def milliseconds(when: Timestamp) -> int:
    """A Timestamp as ms since 1970."""
    return when.seconds * 1000 + when.nanos // 1_000_000


def invalid_field(field: str) -> NoReturn:
    """Raises InvalidArgument: INVALID_FIELD."""
    raise InvalidArgument("INVALID_FIELD", "missing, malformed or out of range", field=field)


def write_timestamp(to: Timestamp, time_ms: int) -> None:
    """Milliseconds since 1970, into a Timestamp that is there already (a message's own)."""
    seconds, ms = divmod(time_ms, 1000)
    to.seconds, to.nanos = seconds, ms * 1_000_000


def write_duration(to: Duration, span_ms: int) -> None:
    """Milliseconds, into a Duration that is there already."""
    seconds, ms = divmod(span_ms, 1000)
    to.seconds, to.nanos = min(seconds, 315_576_000_000), ms * 1_000_000


def timestamp(time_ms: int) -> Timestamp:
    """Milliseconds since 1970 as a Timestamp."""
    made = Timestamp()
    write_timestamp(made, time_ms)
    return made


def duration(span_ms: int) -> Duration:
    """Milliseconds as a Duration."""
    made = Duration()
    write_duration(made, span_ms)
    return made


def checked_from(holder: Platform | None) -> router_service_pb2.CheckNumberResponse:
    """What anybody may know of a number."""
    if holder is None:
        return router_service_pb2.CheckNumberResponse(
            genuineness=router_service_pb2.GENUINENESS_NOT_ASSIGNED
        )
    return router_service_pb2.CheckNumberResponse(
        genuineness=router_service_pb2.GENUINENESS_GENUINE, platform=holder.name,
        sector=holder.sector, complaints=holder.complaints,
    )  # fmt: skip
