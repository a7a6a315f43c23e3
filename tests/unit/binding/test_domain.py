"""The rules of a binding's life."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.binding.domain import (
    LONGEST_MS,
    Answered,
    Binding,
    Reason,
    State,
    check_expiry,
)
from services.runtime.clock import ManualClock
from services.runtime.errors import AxbridgeError, FailedPrecondition, InvalidArgument
from services.runtime.options import Options
from tests.unit.binding.memory import DAY_MS, binding

CLOCK = ManualClock()
NOW = CLOCK.epoch_ms()


@pytest.mark.parametrize(
    ("ahead", "reason"),
    [
        (-1, "EXPIRY_PAST"),
        (0, "EXPIRY_PAST"),
        (1, "EXPIRY_TOO_SOON"),
        (59_999, "EXPIRY_TOO_SOON"),
        (60_000, ""),
        (LONGEST_MS, ""),
        (LONGEST_MS + 1, "EXPIRY_TOO_FAR"),
    ],
)
def test_each_wrong_expiry_has_its_reason(ahead: int, reason: str) -> None:
    if not reason:
        check_expiry(NOW + ahead, NOW)
        return
    with pytest.raises(InvalidArgument, match=reason):
        check_expiry(NOW + ahead, NOW)


def answered(version: int = 0, at: int = NOW) -> Answered:
    return Answered("id", b"x" * 16, at, version)


def test_an_update_takes_the_current_version_only() -> None:
    made = binding(CLOCK, "b1")
    longer = made.updated(1, NOW + DAY_MS, answered())
    assert (longer.version, longer.terms.expire_ms) == (2, NOW + DAY_MS)
    assert longer.requests == (made.requests[0], answered(2))
    with pytest.raises(AxbridgeError, match="VERSION_STALE version=2"):
        longer.updated(1, NOW + DAY_MS, answered())


def test_a_start_is_ahead_of_the_end() -> None:
    made = binding(CLOCK, "b1")
    terms = replace(made.terms, options=Options(start_ms=NOW + 120_000))
    terms.check(NOW)
    later = replace(made, terms=terms)
    with pytest.raises(InvalidArgument, match="START_AFTER_END"):
        later.updated(1, NOW + 120_000, answered())


def test_a_call_moves_the_end_of_a_sliding_binding_and_never_back() -> None:
    made = binding(CLOCK, "b1")
    with pytest.raises(FailedPrecondition, match="BINDING_NOT_SLIDING"):
        made.renewed(NOW, NOW)
    sliding = replace(made, terms=replace(made.terms, options=Options(sliding_seconds=3600)))
    assert sliding.renewed(NOW, NOW) is sliding  # ends in an hour already
    later = sliding.renewed(NOW + 60_000, NOW + 60_000)
    assert (later.version, later.terms.expire_ms) == (2, made.terms.expire_ms + 60_000)
    assert later.renewed(NOW, NOW + 60_000) is later
    assert later.renewed(NOW + DAY_MS, NOW + 61_000).terms.expire_ms == NOW + 61_000 + 3_600_000
    with pytest.raises(FailedPrecondition, match="BINDING_ENDED"):
        sliding.renewed(NOW, made.terms.expire_ms)


def test_a_policy_for_strangers_needs_a_number_of_its_own() -> None:
    terms = replace(binding(CLOCK, "b1").terms, options=Options(stranger="closed"))
    terms.check_number(exclusive=True)
    with pytest.raises(FailedPrecondition, match="OPTION_NEEDS_EXCLUSIVE"):
        terms.check_number(exclusive=False)


def test_nothing_revives_an_ended_or_expired_binding() -> None:
    made = binding(CLOCK, "b1")
    with pytest.raises(FailedPrecondition, match="BINDING_ENDED"):
        made.released(NOW, Reason.REQUESTED).updated(2, NOW + DAY_MS, answered())
    late = answered(at=made.terms.expire_ms)
    with pytest.raises(FailedPrecondition, match="BINDING_ENDED"):
        made.updated(1, late.time_ms + DAY_MS, late)


def test_an_end_after_the_expiry_is_an_expiry_whoever_asks() -> None:
    made = binding(CLOCK, "b1")
    assert made.released(NOW, Reason.REQUESTED).reason is Reason.REQUESTED
    assert made.released(made.terms.expire_ms, Reason.REQUESTED).reason is Reason.EXPIRED


@given(cooling=st.integers(0, 90 * DAY_MS))
def test_an_ended_binding_is_remembered_for_a_day_and_its_cooling(cooling: int) -> None:
    ended = binding(CLOCK, "b1", cooling_ms=cooling).released(NOW, Reason.REQUESTED)
    assert ended.cool_until_ms == NOW + cooling
    assert ended.forget_ms == NOW + max(cooling, DAY_MS)


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["update", "release"]), st.integers(0, 3 * DAY_MS)), max_size=12
    )
)
def test_versions_are_gap_free_and_an_end_is_final(steps: list[tuple[str, int]]) -> None:
    clock = ManualClock()
    now: Binding = binding(clock, "b1", terms=binding(clock, "b1").terms)
    for what, wait in steps:
        clock.advance(timedelta(milliseconds=wait))
        before = now
        try:
            if what == "update":
                at = clock.epoch_ms()
                now = before.updated(before.version, at + 2 * DAY_MS, answered(at=at))
            elif before.live:
                now = before.released(clock.epoch_ms(), Reason.REQUESTED)
        except FailedPrecondition:
            assert not before.live or before.terms.expire_ms <= clock.epoch_ms()
        assert now.version - before.version in (0, 1)
        assert before.live or now == before
        assert now.requests[0] == before.requests[0]
        if now is not before:
            assert all(r.time_ms > clock.epoch_ms() - DAY_MS for r in now.requests[1:])
    assert (now.state is State.RELEASED) == bool(now.release_ms)


def test_a_repr_shows_neither_tag_nor_order() -> None:
    shown = repr(binding(CLOCK, "b1"))
    assert shown == "<Binding b1 version 1 ACTIVE>"
