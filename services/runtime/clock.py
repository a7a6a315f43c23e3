"""Time as a dependency: wall clock for facts, monotonic clock for waiting. Pure.

Refuses naive datetimes and local zones. Invariant: every `now()` is aware and in UTC, so times of
different processes compare.
"""

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Tells the time. `now` and `epoch_ms` may step backwards; `monotonic` never does."""

    def now(self) -> datetime:
        """The wall clock, aware, in UTC."""

    def epoch_ms(self) -> int:
        """The wall clock as whole milliseconds since 1970, rounded down."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; only differences mean something."""


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def epoch_ms(self) -> int:
        return time.time_ns() // 1_000_000

    monotonic = staticmethod(time.monotonic)  # the function itself: asked several times a call


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class ManualClock:
    """A clock that moves only when it is told to. Safe to share between threads."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._lock = threading.Lock()
        self._now = _utc(start)
        self._monotonic = 0.0

    def now(self) -> datetime:
        return self._now

    def epoch_ms(self) -> int:
        return (self._now - _EPOCH) // timedelta(milliseconds=1)

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, by: timedelta) -> None:
        """Lets time pass: both clocks move forward by the same span."""
        if by < timedelta(0):
            raise ValueError("time does not pass backwards; use `set` to step the wall clock")
        with self._lock:
            self._now += by
            self._monotonic += by.total_seconds()

    def set(self, now: datetime) -> None:
        """Steps the wall clock, as an NTP correction does; the monotonic clock stays."""
        with self._lock:
            self._now = _utc(now)


def _utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("a datetime without a zone")
    return moment.astimezone(UTC)
