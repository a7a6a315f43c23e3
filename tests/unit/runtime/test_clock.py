"""Clocks are in UTC; the manual one moves only when told to."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from services.runtime.clock import Clock, ManualClock, SystemClock


@pytest.mark.parametrize("clock", [SystemClock(), ManualClock()])
def test_now_is_aware_and_agrees_with_epoch_ms(clock: Clock) -> None:
    before = clock.epoch_ms()
    now = clock.now()
    assert now.utcoffset() == timedelta(0)
    assert before <= now.timestamp() * 1000 + 1 <= clock.epoch_ms() + 2
    assert clock.monotonic() <= clock.monotonic()


def test_advance_moves_both_clocks() -> None:
    clock = ManualClock(datetime(2026, 3, 1, tzinfo=UTC))
    clock.advance(timedelta(seconds=1, microseconds=1999))
    assert clock.now() == datetime(2026, 3, 1, 0, 0, 1, 1999, tzinfo=UTC)
    assert clock.epoch_ms() == 1_772_323_201_001
    assert clock.monotonic() == pytest.approx(1.001999)
    with pytest.raises(ValueError, match="backwards"):
        clock.advance(timedelta(seconds=-1))


def test_set_steps_the_wall_clock_only() -> None:
    clock = ManualClock()
    clock.set(datetime(2025, 1, 1, 8, tzinfo=timezone(timedelta(hours=8))))
    assert clock.now() == datetime(2025, 1, 1, tzinfo=UTC)
    assert clock.now().tzinfo is UTC
    assert clock.monotonic() == 0.0


def test_naive_times_are_refused() -> None:
    with pytest.raises(ValueError, match="zone"):
        ManualClock(datetime(2026, 1, 1))
    with pytest.raises(ValueError, match="zone"):
        ManualClock().set(datetime(2026, 1, 1))
