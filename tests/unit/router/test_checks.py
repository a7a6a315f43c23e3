"""Anybody may ask, and nobody may ask without end."""

from datetime import timedelta

import pytest

from services.router import checks
from services.router.checks import Checks
from services.router.directory import parse
from services.runtime.clock import ManualClock
from services.runtime.errors import InvalidArgument, ResourceExhausted
from tests.unit.router.platforms import TEXT, MemoryPlatforms

NUMBER = "700123456780001"


def made(rate: float = 1.0) -> tuple[Checks, ManualClock]:
    clock = ManualClock()
    return Checks(MemoryPlatforms(parse(TEXT)), clock, rate), clock


def test_a_number_is_its_blocks_holder() -> None:
    known, _ = made()
    holder = known.check(NUMBER, "a")
    assert holder is not None
    assert holder.name == "Own"
    assert known.check("+86700000000000001", "a") is None
    with pytest.raises(InvalidArgument) as caught:
        known.check("13812345678", "a")
    assert caught.value.reason == "NUMBER_INVALID"
    assert "13812345678" not in repr(caught.value)


def test_an_asker_has_ten_seconds_worth_and_then_the_rate() -> None:
    known, clock = made()
    for _ in range(10):
        known.check(NUMBER, "a")
    with pytest.raises(ResourceExhausted) as caught:
        known.check(NUMBER, "a")
    assert (caught.value.reason, caught.value.retry_after) == ("OVERLOADED", timedelta(seconds=1))
    known.check(NUMBER, "b")
    clock.advance(timedelta(seconds=1))
    known.check(NUMBER, "a")
    with pytest.raises(ResourceExhausted):
        known.check(NUMBER, "a")


def test_all_askers_together_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    known, clock = made()
    for number in range(200):
        known.check(NUMBER, str(number))
    with pytest.raises(ResourceExhausted):
        known.check(NUMBER, "another")
    clock.advance(timedelta(seconds=1))
    known.check(NUMBER, "another")


def test_the_oldest_askers_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_KEPT", 4)
    known, _ = made()
    for _ in range(10):
        known.check(NUMBER, "a")
    for name in "bcd":
        known.check(NUMBER, name)
    known.check(NUMBER, "a")  # as one who never asked
