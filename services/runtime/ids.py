"""Identity as a dependency: ids of things and events, and the check of a caller's request ids.

Ids are UUIDs of version 7 (RFC 9562 §5.7) in lowercase: they sort by the millisecond of creation,
so append-mostly indexes stay dense. They are unique without coordination and hard to guess (62
random bits), but no secret. Invariant: ids of one source are strictly increasing, also between
threads and when the wall clock steps back.
"""

import os
import re
import threading
from typing import Final, Protocol

from services.runtime.clock import Clock, SystemClock
from services.runtime.errors import InvalidArgument

_UUID4: Final = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.ASCII
)

_UUID7: Final = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII
)


class IdSource(Protocol):
    """Gives out ids, each once, in increasing order."""

    def new(self) -> str:
        """A fresh id, in lowercase. Never blocks, never fails."""


class TimeOrderedIds:
    """UUIDv7 with a 12-bit counter inside the millisecond (RFC 9562 §6.2, method 1).

    The counter starts anew at a random value below 2048, so at least 2048 ids fit a millisecond;
    beyond that the source borrows the next millisecond, which only makes the time part run ahead.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock: Clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._last_ms = 0
        self._counter = 0

    def new(self) -> str:
        random = int.from_bytes(os.urandom(10), "big")
        now = self._clock.epoch_ms()
        with self._lock:
            if now > self._last_ms:
                self._last_ms, self._counter = now, (random >> 64) & 0x7FF
            elif self._counter < 0xFFF:
                self._counter += 1
            else:
                self._last_ms, self._counter = self._last_ms + 1, (random >> 64) & 0x7FF
            ms, counter = self._last_ms, self._counter
        low = (1 << 63) | (random & ((1 << 62) - 1))  # the variant bits 10, then 62 random bits
        return _render((ms & ((1 << 48) - 1)) << 80 | 0x7 << 76 | counter << 64 | low)


class SequentialIds:
    """Ids a test can predict: 1, 2, 3 in the form of a UUIDv7; `series` keeps sources apart."""

    def __init__(self, series: int = 0) -> None:
        self._lock = threading.Lock()
        self._series = series & ((1 << 48) - 1)
        self._next = 0

    def new(self) -> str:
        with self._lock:
            self._next += 1
            return _render(self._series << 80 | 0x7 << 76 | 0b10 << 62 | self._next)


def request_id(text: str) -> str:
    """The request id in lowercase.

    Raises:
        InvalidArgument: it is not a UUID of version 4 (RFC 9562 §5.4). The id is not repeated.
    """
    lowered = text.lower() if len(text) == 36 else ""
    if _UUID4.fullmatch(lowered) is None:
        raise InvalidArgument("REQUEST_ID_INVALID", "request_id must be a UUID of version 4")
    return lowered


def made_ms(identity: str) -> int:
    """When an id of version 7 was made, in milliseconds since 1970; 0 for any other text."""
    return int(identity[:8] + identity[9:13], 16) if _UUID7.fullmatch(identity) else 0


def _render(value: int) -> str:
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
