"""A call's record: the same whatever the order and number of its events."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.callfold import (
    ABANDONED,
    ANSWERED,
    REFUSED,
    UNANSWERED,
    CallRecord,
    CallState,
    DecisionFact,
    Fact,
    ProgressFact,
    due_record,
    fold,
    record_event_id,
    record_of,
)
from services.router.domain import Kind, Leg

NOW = 1_800_000_000_000
DAY = 24 * 3600 * 1000


def decision(at: int = 0, sequence: int = 1, *, connected: bool = True) -> DecisionFact:
    reason, cause = (0, 0) if connected else (5, 21)
    return DecisionFact(
        NOW + at, "r1-0-a", sequence, connected, "700123456780001", "t1", "b1", 1, "taxi", 1,
        reason, cause, "", None,
    )  # fmt: skip


def progress(leg: int, number: int, kind: int, at: int, journal: int = 10) -> ProgressFact:
    return ProgressFact(NOW + at, "r1-1-b", journal, leg, number, kind, NOW + at, 16, 1)


CALL: list[Fact] = [
    decision(),
    progress(Leg.CALLEE, 1, Kind.RINGING, 100),
    progress(Leg.CALLEE, 2, Kind.ANSWERED, 2_000),
    progress(Leg.CALLER, 1, Kind.ENDED, 62_000),
]


def play(facts: list[Fact]) -> tuple[CallState, list[CallRecord]]:
    state, written = CallState(), []
    for fact in facts:
        state, record = due_record(fold(state, fact))
        if record is not None:
            written.append(record)
    return state, written


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_any_order_ends_in_the_same_record(order: tuple[int, ...]) -> None:
    state, written = play([CALL[i] for i in order])
    assert written[-1] == record_of(play(CALL)[0])
    assert written[-1].outcome == ANSWERED
    assert (written[-1].answer_ms, written[-1].end_ms) == (NOW + 2_000, NOW + 62_000)
    assert state.written == len(written)


def test_an_ordinary_call_has_one_record() -> None:
    assert len(play(CALL)[1]) == 1
    assert len(play([*CALL, *CALL, progress(Leg.CALLEE, 3, Kind.ENDED, 62_050)])[1]) == 1


def test_a_refusal_is_recorded_at_once_and_a_later_connect_overrules_it() -> None:
    _, written = play([decision(connected=False)])
    assert [r.outcome for r in written] == [REFUSED]
    state, written = play([decision(connected=False), decision(5, 2), *CALL[1:]])
    assert [r.outcome for r in written] == [REFUSED, ANSWERED]
    assert state.written == 2


def test_a_question_for_the_extension_is_no_end() -> None:
    asked = replace(decision(connected=False), reason=16)
    assert play([asked])[1] == []
    _, written = play([asked, decision(5_000, 2), *CALL[1:]])
    assert [r.outcome for r in written] == [ANSWERED]
    unknown = replace(decision(5_000, 2, connected=False), reason=17)
    assert [r.outcome for r in play([asked, unknown])[1]] == [REFUSED]
    hung_up = play([asked, progress(Leg.CALLER, 1, Kind.ENDED, 3_000)])[1]
    assert [r.outcome for r in hung_up] == [REFUSED]
    assert record_of(CallState(asked, abandoned=True)) is not None


def test_the_first_decision_that_connected_stands() -> None:
    state, _ = play([decision(9, 7), decision(3, 5, connected=False), decision(4, 6)])
    assert state.decision is not None
    assert state.decision.journal_sequence == 6


def test_no_answer() -> None:
    _, written = play([decision(), progress(Leg.CALLEE, 1, Kind.ENDED, 30_000)])
    assert [r.outcome for r in written] == [UNANSWERED]


def test_the_callers_leg_answers_nothing() -> None:
    facts: list[Fact] = [
        decision(),
        progress(1, 1, Kind.ANSWERED, 5),
        progress(1, 2, Kind.ENDED, 9),
    ]
    assert play(facts)[1][-1].outcome == UNANSWERED


def test_abandoned_then_corrected() -> None:
    state, _ = play(CALL[:3])
    gone = CallState(state.decision, state.progress, True, state.written, state.digest)
    gone, record = due_record(gone)
    assert record is not None
    assert (record.outcome, record.end_ms, gone.written) == (ABANDONED, 0, 1)
    gone, record = due_record(fold(gone, CALL[3]))
    assert record is not None
    assert (record.outcome, gone.written) == (ANSWERED, 2)


def test_a_call_id_used_again_after_a_day_is_another_call() -> None:
    state, written = play([*CALL, decision(DAY, 99), progress(1, 1, Kind.ENDED, DAY + 5)])
    assert [r.call_ms for r in written] == [NOW, NOW + DAY]
    assert state.written == 1
    ids = {record_event_id("cmcc", "c1", r.call_ms, 1) for r in written}
    assert len(ids) == 2


def test_a_repeated_number_of_a_leg_keeps_its_first_report() -> None:
    other = progress(Leg.CALLER, 1, Kind.ENDED, 70_000, journal=11)
    assert play([*CALL, other])[1] == play(CALL)[1]


PROGRESS = st.builds(
    progress, st.integers(1, 2), st.integers(1, 3), st.integers(1, 3), st.integers(0, 9),
    st.integers(1, 5),
)  # fmt: skip
DECISIONS = st.builds(decision, st.integers(0, 9), st.integers(1, 5), connected=st.booleans())


@given(st.lists(PROGRESS | DECISIONS, max_size=8, unique=True), st.randoms())
def test_order_and_repeats_never_matter(facts: list[Fact], random: object) -> None:
    unique: list[Fact] = list(
        {(type(f), f.journal_sequence): f for f in facts}.values()
    )  # a journal numbers
    mixed = unique + unique[:2]
    random.shuffle(mixed)  # type: ignore[attr-defined]
    assert record_of(play(mixed)[0]) == record_of(play(unique)[0])
    assert play(mixed)[0].progress == play(unique)[0].progress


def test_the_events_id_says_day_call_and_sequence() -> None:
    assert record_event_id("cmcc", "c/1", NOW, 3) == "cdr-20270115-cmcc/c/1-3"
