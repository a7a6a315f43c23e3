"""The answer to a switch as octets: what `translate.response_from` makes, serialized. Pure.

A plain connected call, nearly every one, is written by hand: its message is a page of small
objects that the caches have lost by the next call. All else goes by the message.
Invariant: octet for octet what the message gives (a test compares them).
"""

from collections.abc import Iterable
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
_E164: Final = 16


def octets_from(decision: Decision) -> bytes:
    """The RouteCallResponse."""
    _, time_ms, age_ms, number, _, entry, refusal, callee, _, _, _, _ = decision
    if refusal is not None or entry is None:
        return response_from(decision).SerializeToString()
    tenant, name, version, _, _, _, _, minutes, _, _, _, _, _, options = entry
    binding = f"tenants/{tenant}/bindings/{name}"
    size, known = len(callee), len(binding)
    if options or known > _LONGEST or not 0 < size <= _E164 or not binding.isascii():
        return response_from(decision).SerializeToString()
    connect = (
        f"{_CALLEE[size]}{callee}\x12\x0f{number}{_SHOWN}{_most(minutes)}{_RECORDING}"
        f"2{_SMALL[known]}{binding}8{_SMALL[version] if version < _MANY else _varint(version)}"
    )
    seconds, ms = divmod(time_ms, 1000)
    time = _seconds(seconds) + _NANOS[ms]
    return (
        f"\n{_SMALL[len(connect)]}{connect}{_view_age(age_ms)}\x22{_SMALL[len(time)]}{time}"
    ).encode("latin-1")


def result_from(answer: bytes) -> bytes:
    """The RouteCallResult that holds the RouteCallResponse."""
    return b"\n" + _length(answer) + answer


def results_from(results: Iterable[bytes]) -> bytes:
    """The BatchRouteCallsResponse of such results."""
    return b"".join([b"\n" + _length(result) + result for result in results])


def _length(octets: bytes) -> bytes:
    size = len(octets)
    return _LENGTHS[size] if size < _MANY else _varint(size).encode("latin-1")


def _varint(value: int) -> str:
    text = ""
    while value > 127:
        text += chr(value & 127 | 128)
        value >>= 7
    return text + chr(value)


_MANY: Final = 512  # more than a plain answer's octets
_SMALL: Final = [_varint(value) for value in range(_MANY)]
_LENGTHS: Final = [text.encode("latin-1") for text in _SMALL]
_CALLEE: Final = [f"\n{_varint(size + 2)}\n{_varint(size)}" for size in range(_E164 + 1)]
_NANOS: Final = ["", *(f"\x10{_varint(ms * 1_000_000)}" for ms in range(1, 1000))]


@lru_cache(1024)
def _seconds(seconds: int) -> str:  # of the wall clock: the same for all calls of a second
    return f"\b{_varint(seconds)}" if seconds else ""


@lru_cache(4096)
def _view_age(span_ms: int) -> str:  # of a view that is alive, it is never more than seconds
    """RouteCallResponse.view_age."""
    seconds, ms = divmod(span_ms, 1000)
    span = _seconds(seconds) + _NANOS[ms]
    return f"\x1a{chr(len(span))}{span}"


@lru_cache(1024)
def _most(minutes: int) -> str:
    """Connect.max_duration."""
    span = _seconds(60 * minutes)
    return f"\x22{chr(len(span))}{span}" if minutes else ""
