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
    if refusal is not None or entry is None:
        return response_from(decision).SerializeToString()
    tenant, name, version, _, _, _, _, minutes, _, _, _, _, _, options = entry
    binding = f"tenants/{tenant}/bindings/{name}"
    size, known = len(callee), len(binding)
    if options or known > _LONGEST or not size or not binding.isascii():
        return response_from(decision).SerializeToString()
    connect = (
        f"\n{_SMALL[size + 2]}\n{_SMALL[size]}{callee}\x12\x0f{number}{_SHOWN}{_most(minutes)}"
        f"{_RECORDING}2{_SMALL[known]}{binding}8{_varint(version)}"
    )
    seconds, ms = divmod(age_ms, 1000)
    age = _seconds(seconds) + _NANOS[ms]
    seconds, ms = divmod(time_ms, 1000)
    time = _seconds(seconds) + _NANOS[ms]
    return (
        f"\n{_SMALL[len(connect)]}{connect}\x1a{_SMALL[len(age)]}{age}\x22{_SMALL[len(time)]}{time}"
    ).encode("latin-1")


def _varint(value: int) -> str:
    text = ""
    while value > 127:
        text += chr(value & 127 | 128)
        value >>= 7
    return text + chr(value)


_SMALL: Final = [_varint(value) for value in range(512)]  # more than a plain answer's octets
_NANOS: Final = ["", *(f"\x10{_varint(ms * 1_000_000)}" for ms in range(1, 1000))]


@lru_cache(1024)
def _seconds(seconds: int) -> str:  # of the wall clock: the same for all calls of a second
    return f"\b{_varint(seconds)}" if seconds else ""


@lru_cache(1024)
def _most(minutes: int) -> str:
    """Connect.max_duration."""
    span = _seconds(60 * minutes)
    return f"\x22{chr(len(span))}{span}" if minutes else ""
