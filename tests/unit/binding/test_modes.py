"""What may be done to a binding of which mode, and when its callee's minute is over."""

from dataclasses import replace

import pytest

from services.binding import modes
from services.binding.domain import Answered, Binding, Mode, Reason
from services.runtime.clock import ManualClock
from services.runtime.errors import Aborted, FailedPrecondition, InvalidArgument
from tests.unit.binding.memory import binding, terms


def ax(clock: ManualClock, **changes: object) -> Binding:
    made = terms(clock, mode=Mode.AX)
    return replace(binding(clock, "b1", tag_b=b"", terms=made), **changes)  # type: ignore[arg-type]


def asked(clock: ManualClock) -> Answered:
    return Answered("r2", b"u" * 16, clock.epoch_ms(), 0)


def test_a_callee_stands_for_a_minute_and_the_next_one_replaces_it() -> None:
    clock = ManualClock()
    made = ax(clock)
    first = modes.named(made, b"y" * 16, asked(clock))
    assert first.terms.options.callee_until_ms == first.due_ms == clock.epoch_ms() + 60_000
    assert (first.tag_b, first.version, first.requests[-1].version) == (b"y" * 16, 2, 2)
    second = modes.named(first, b"z" * 16, asked(clock))
    assert second.tag_b == b"z" * 16
    nobody = modes.named(second, b"", asked(clock))
    assert (nobody.tag_b, nobody.due_ms) == (b"", nobody.terms.expire_ms)
    over = modes.unnamed(second, clock.epoch_ms())
    assert (over.tag_b, over.version, over.requests) == (b"", 4, second.requests)


def test_a_callee_does_not_outlast_its_binding() -> None:
    clock = ManualClock()
    made = ax(clock)
    soon = replace(made, terms=replace(made.terms, expire_ms=clock.epoch_ms() + 5_000))
    assert modes.named(soon, b"y" * 16, asked(clock)).due_ms == soon.terms.expire_ms


def test_an_upgrade_keeps_id_number_and_a() -> None:
    clock = ManualClock()
    named = modes.named(ax(clock), b"y" * 16, asked(clock))
    pair = modes.upgraded(named, 2, b"z" * 16, asked(clock))
    assert (pair.id, pair.number, pair.tag_a) == (named.id, named.number, named.tag_a)
    assert (pair.terms.mode, pair.tag_b, pair.version) == (Mode.AXB, b"z" * 16, 3)
    assert pair.due_ms == pair.terms.expire_ms
    with pytest.raises(Aborted, match="VERSION_STALE"):
        modes.upgraded(named, 1, b"z" * 16, asked(clock))


def test_what_is_no_ax_has_neither() -> None:
    clock = ManualClock()
    pair = binding(clock, "b1")
    ended = ax(clock).released(clock.epoch_ms(), Reason.REQUESTED)
    for wrong, reason in ((pair, "MODE_DIFFERS"), (ended, "BINDING_ENDED")):
        with pytest.raises(FailedPrecondition, match=reason):
            modes.named(wrong, b"y" * 16, asked(clock))
        with pytest.raises(FailedPrecondition, match=reason):
            modes.upgraded(wrong, wrong.version, b"y" * 16, asked(clock))
    made = ax(clock)
    with pytest.raises(InvalidArgument, match="PARTIES_EQUAL"):
        modes.named(made, made.tag_a, asked(clock))
