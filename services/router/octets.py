"""The answer to a switch as octets: what `translate.response_from` makes, serialized. Pure.

A plain connected call, nearly every one, is written by hand: its message is a page of small
objects that the caches have lost by the next call. All else goes by the message.
Invariant: octet for octet what the message gives (a test compares them).
"""

from functools import lru_cache
from typing import Final

from axbridge.router.v1 import call_pb2

from services.router.domain import MARK, Decision
from services.router.translate import response_from

# The text is encoded as Latin-1, one octet a character; what is no number is spelled out in it.
_MARK: Final = MARK.encode().decode("latin-1")
_SHOWN: Final = f"\x1a{chr(len(_MARK))}{_MARK}"  # Connect.mark
_RECORDING: Final = f"({chr(call_pb2.RECORDING_OFF)}"  # Connect.recording
_LONGEST: Final = 127  # of a field whose length is one octet


def octets_from(decision: Decision) -> bytes:
    """The RouteCallResponse."""
    _, time_ms, age_ms, number, _, entry, refusal, callee, _, _ = decision
    if refusal is not None or entry is None or entry.options:
        return response_from(decision).SerializeToString()
    binding = f"tenants/{entry.tenant}/bindings/{entry.binding}"
    if len(binding) > _LONGEST or not binding.isascii() or not callee:
        return response_from(decision).SerializeToString()
    connect = (
        f"\n{chr(len(callee) + 2)}\n{chr(len(callee))}{callee}\x12\x0f{number}{_SHOWN}"
        f"{_most(entry.max_call_minutes)}{_RECORDING}"
        f"2{chr(len(binding))}{binding}8{_varint(entry.version)}"
    )
    age, time = _span(age_ms), _span(time_ms)
    return (
        f"\n{_varint(len(connect))}{connect}\x1a{chr(len(age))}{age}\x22{chr(len(time))}{time}"
    ).encode("latin-1")


def _span(span_ms: int) -> str:
    """The fields of a Duration or Timestamp."""
    seconds, ms = divmod(span_ms, 1000)
    return _seconds(seconds) + _NANOS[ms]


def _varint(value: int) -> str:
    text = ""
    while value > 127:
        text += chr(value & 127 | 128)
        value >>= 7
    return text + chr(value)


@lru_cache(1024)
def _seconds(seconds: int) -> str:  # of the wall clock: the same for all calls of a second
    return f"\b{_varint(seconds)}" if seconds else ""


@lru_cache(1024)
def _most(minutes: int) -> str:
    """Connect.max_duration."""
    span = _seconds(60 * minutes)
    return f"\x22{chr(len(span))}{span}" if minutes else ""


_NANOS: Final = ("", *(f"\x10{_varint(ms * 1_000_000)}" for ms in range(1, 1000)))
