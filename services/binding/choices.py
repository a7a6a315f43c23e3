"""BindingOptions to the domain and back. Pure and total: any message gives a value or its reason.

Refuses what could be misread later: a window without a zone, recording that somebody would not be
told of. Invariant: what passes can be written as text and read again by any router of this version.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Final, NoReturn

from axbridge.binding.v1 import binding_pb2
from google.protobuf.duration_pb2 import Duration

from services.binding.domain import LONGEST_MS, SHORTEST_MS, Direction, Mode
from services.runtime.errors import InvalidArgument
from services.runtime.options import MAX_WINDOWS, NONE, Options, Window, is_code, window, zone

_EVERY_DAY: Final = "1234567"
_RING_SECONDS: Final = (5, 180)
_LIFE_SECONDS: Final = (SHORTEST_MS // 1000, LONGEST_MS // 1000)
_BACK_SECONDS: Final = (60, 7 * 24 * 3600)
_YEAR_10000: Final = 253_402_300_800  # seconds; Timestamp ends before it
_SMS: Final = {0: True, binding_pb2.SMS_POLICY_ALLOWED: True, binding_pb2.SMS_POLICY_REFUSED: False}
_MARK: Final = {0: True, binding_pb2.MARK_POLICY_SHOWN: True, binding_pb2.MARK_POLICY_HIDDEN: False}
_STRANGER: Final = {
    0: False,
    binding_pb2.UNKNOWN_CALLER_POLICY_REFUSE: False,
    binding_pb2.UNKNOWN_CALLER_POLICY_PLAY_AND_RELEASE: True,
}


def read(message: binding_pb2.BindingOptions, direction: Direction) -> Options:
    """The options. Raises InvalidArgument: WINDOW_INVALID, TIME_ZONE_UNKNOWN,
    ANNOUNCEMENT_INVALID, RECORDING_UNANNOUNCED, INVALID_FIELD."""
    sms, mark = _SMS.get(message.sms), _MARK.get(message.mark)
    play = _STRANGER.get(message.unknown_caller)
    if sms is None or mark is None or play is None:
        _invalid("sms" if sms is None else "mark" if mark is None else "unknown_caller")
    stranger = _code(message.unknown_caller_announcement, "unknown_caller_announcement")
    if bool(stranger) != bool(message.unknown_caller):
        _announcement("unknown_caller_announcement")
    return Options(
        start_ms=_start(message),
        zone=_zone(message),
        windows=_windows(message.windows),
        ring_seconds=_seconds(message, "ring_timeout", message.ring_timeout, _RING_SECONDS),
        recording=_recording(message, direction),
        sms=sms,
        mark=mark,
        stranger=stranger,
        stranger_play=play,
        after=_code(message.ended_announcement, "ended_announcement"),
        sliding_seconds=_seconds(message, "sliding_life", message.sliding_life, _LIFE_SECONDS),
        callback_seconds=_seconds(message, "callback_life", message.callback_life, _BACK_SECONDS),
    )


def check_mode(message: binding_pb2.BindingOptions, mode: Mode) -> None:
    """Raises InvalidArgument: NOT_FOR_MODE."""
    for wrong, field in (
        (message.HasField("callback_life") and mode is not Mode.AXE, "callback_life"),
        (message.unknown_caller and mode is not Mode.AXB, "unknown_caller"),
        (message.sms == binding_pb2.SMS_POLICY_ALLOWED and mode is Mode.AXE, "sms"),
    ):
        if wrong:
            raise InvalidArgument("NOT_FOR_MODE", "the mode lacks it", field=f"options.{field}")


def _start(message: binding_pb2.BindingOptions) -> int:
    time = message.start_time
    if not 0 <= time.seconds < _YEAR_10000 or not 0 <= time.nanos < 1_000_000_000:
        _invalid("start_time")
    return time.seconds * 1000 + time.nanos // 1_000_000


def _zone(message: binding_pb2.BindingOptions) -> str:
    name = message.time_zone
    if bool(name) != bool(message.windows):
        raise InvalidArgument("TIME_ZONE_UNKNOWN", "windows and time_zone go together")
    if name:
        try:
            zone(name)
        except LookupError:
            raise InvalidArgument("TIME_ZONE_UNKNOWN", "not an IANA time zone") from None
    return name


def _windows(given: Iterable[binding_pb2.TimeWindow]) -> tuple[Window, ...]:
    try:
        made = tuple(
            window(
                "".join(map(str, each.weekdays)) or _EVERY_DAY, each.start_minute, each.end_minute
            )
            for each in given
        )
    except ValueError:
        raise InvalidArgument("WINDOW_INVALID", "a time-of-day window is malformed") from None
    if len(made) > MAX_WINDOWS:
        raise InvalidArgument("WINDOW_INVALID", "too many time-of-day windows")
    return made


def _recording(
    message: binding_pb2.BindingOptions, direction: Direction
) -> tuple[str, str, str, str] | None:
    if not message.HasField("recording"):
        return None
    a, b = message.recording.calls_of_a, message.recording.calls_of_b
    codes = (
        _code(a.to_caller, "recording.calls_of_a.to_caller"),
        _code(a.to_callee, "recording.calls_of_a.to_callee"),
        _code(b.to_caller, "recording.calls_of_b.to_caller"),
        _code(b.to_callee, "recording.calls_of_b.to_callee"),
    )
    told_a = direction is Direction.B_TO_A or all(codes[:2])
    told_b = direction is Direction.A_TO_B or all(codes[2:])
    if not (told_a and told_b):
        raise InvalidArgument("RECORDING_UNANNOUNCED", "recording is never silent")
    return codes


def _code(text: str, field: str) -> str:
    if text and not is_code(text):
        _announcement(field)
    return text


def _seconds(
    message: binding_pb2.BindingOptions, field: str, span: Duration, limits: tuple[int, int]
) -> int:
    if not message.HasField(field):  # type: ignore[arg-type]
        return 0
    if span.nanos or not limits[0] <= span.seconds <= limits[1]:
        _invalid(field)
    return span.seconds


def shown(options: Options) -> binding_pb2.BindingOptions | None:
    """The message; None where nothing was chosen. What is as the default stays unspecified."""
    if replace(options, extension="", callee_until_ms=0, numbers="") == NONE:
        return None
    message = binding_pb2.BindingOptions(
        time_zone=options.zone,
        windows=[
            binding_pb2.TimeWindow(
                weekdays=() if each.days == _EVERY_DAY else map(int, each.days),
                start_minute=each.start,
                end_minute=each.end,
            )
            for each in options.windows
        ],
        unknown_caller_announcement=options.stranger,
        ended_announcement=options.after,
    )
    if options.start_ms:
        message.start_time.FromMilliseconds(options.start_ms)
    if options.ring_seconds:
        message.ring_timeout.seconds = options.ring_seconds
    if options.sliding_seconds:
        message.sliding_life.seconds = options.sliding_seconds
    if options.callback_seconds:
        message.callback_life.seconds = options.callback_seconds
    if options.recording:
        a, b = message.recording.calls_of_a, message.recording.calls_of_b
        a.to_caller, a.to_callee, b.to_caller, b.to_callee = options.recording
    if not options.sms:
        message.sms = binding_pb2.SMS_POLICY_REFUSED
    if not options.mark:
        message.mark = binding_pb2.MARK_POLICY_HIDDEN
    if options.stranger:
        message.unknown_caller = (
            binding_pb2.UNKNOWN_CALLER_POLICY_PLAY_AND_RELEASE
            if options.stranger_play
            else binding_pb2.UNKNOWN_CALLER_POLICY_REFUSE
        )
    return message


def _announcement(field: str) -> NoReturn:
    raise InvalidArgument("ANNOUNCEMENT_INVALID", "a code is missing or malformed", field=field)


def _invalid(field: str) -> NoReturn:
    raise InvalidArgument(
        "INVALID_FIELD", "a field is missing or malformed", field=f"options.{field}"
    )
