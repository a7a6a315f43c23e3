"""The fold of a call's events into its record. Pure.

Every choice between facts is a minimum over them (first decision that connected, first report of a
leg and number, earliest end), so the record depends on the set of facts and not on their order or
number of arrivals. Refuses to invent: a connected call has no record before its end, except that
the reaper may call it abandoned.

Invariant: folding a fact again changes nothing, and a record is due only if it differs from the
one written last.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

from services.router.domain import Kind, Leg, Refusal

ANSWERED, UNANSWERED, REFUSED, ABANDONED = 1, 2, 3, 4  # CallOutcome
_NETWORK: Final = 3  # ReleaseSide
_DAY_MS: Final = 24 * 3600 * 1000  # switches may use a call id again after a day


@dataclass(frozen=True, slots=True, repr=False)
class DecisionFact:
    """A CallRouted or CallRefused. `raw` is the event as it came, for storing it again."""

    time_ms: int
    journal: str
    journal_sequence: int
    connected: bool
    number: str
    tenant: str
    binding: str
    version: int
    industry_id: str
    side: int
    reason: int
    q850_cause: int
    trunk: str
    secrets: tuple[str, bytes] | None
    raw: bytes = field(compare=False, default=b"")

    @property
    def order(self) -> tuple[int, int, str, int]:
        """Connected ones first, a question for the extension last, then by time; the rest breaks
        ties for good."""
        rank = 0 if self.connected else 2 if self.asked else 1
        return rank, self.time_ms, self.journal, self.journal_sequence

    @property
    def asked(self) -> bool:
        """The caller was asked for an extension: the call goes on."""
        return self.reason == Refusal.EXTENSION_NEEDED


@dataclass(frozen=True, slots=True, repr=False)
class ProgressFact:
    """A CallProgressed."""

    time_ms: int
    journal: str
    journal_sequence: int
    leg: int
    sequence: int
    kind: int
    event_ms: int
    q850_cause: int
    release_side: int
    raw: bytes = field(compare=False, default=b"")

    @property
    def order(self) -> tuple[int, str, int]:
        """The first report of a leg's number stands; a switch that repeats it changes nothing."""
        return self.time_ms, self.journal, self.journal_sequence


Fact = DecisionFact | ProgressFact


@dataclass(frozen=True, slots=True, repr=False)
class CallState:
    """What is known of a call. `written` is the sequence of its last record, 0 if none."""

    decision: DecisionFact | None = None
    progress: tuple[ProgressFact, ...] = ()
    abandoned: bool = False
    written: int = 0
    digest: bytes = b""

    def facts(self) -> Iterator[Fact]:
        """What has to be stored."""
        if self.decision is not None:
            yield self.decision
        yield from self.progress


@dataclass(frozen=True, slots=True)
class CallRecord:
    """A call's record, but for its sealed part. Times in ms since 1970; 0: did not happen."""

    outcome: int
    call_ms: int
    ring_ms: int
    answer_ms: int
    end_ms: int
    q850_cause: int
    release_side: int
    journal: str
    journal_sequence: int

    @property
    def digest(self) -> bytes:
        """Equal for equal records."""
        return hashlib.sha256(repr(self).encode()).digest()[:16]


def fold(state: CallState, fact: Fact) -> CallState:
    """The state with the fact in it."""
    if isinstance(fact, ProgressFact):
        known = {(p.leg, p.sequence): p for p in state.progress}
        place = (fact.leg, fact.sequence)
        known[place] = min(fact, known.get(place, fact), key=lambda p: p.order)
        return replace(state, progress=tuple(known[place] for place in sorted(known)))
    if _is_another_call(state, fact):
        return CallState(decision=fact)
    first = fact if state.decision is None else min(state.decision, fact, key=lambda d: d.order)
    return replace(state, decision=first)


def contradicts(state: CallState, fact: Fact) -> bool:
    """Whether the same place of a journal said something else before."""
    return any(
        (known.journal, known.journal_sequence) == (fact.journal, fact.journal_sequence)
        and known != fact
        for known in state.facts()
    )


def _is_another_call(state: CallState, fact: DecisionFact) -> bool:
    """Whether the switch used the id again. A report that comes later than that is the new call's:
    it cannot be told apart."""
    if state.decision is None or record_of(state) is None:
        return False
    return fact.time_ms - state.decision.time_ms >= _DAY_MS


def record_of(state: CallState) -> CallRecord | None:
    """The record as it stands, or None while there is nothing to record."""
    decision = state.decision
    if decision is None:
        return None
    if decision.asked and not (state.abandoned or _ends(state)):
        return None
    if not decision.connected:
        return _record(decision, REFUSED, 0, 0, decision.time_ms, decision.q850_cause, _NETWORK)
    ring_ms = _first(state, Kind.RINGING)
    answer_ms = _first(state, Kind.ANSWERED)
    ends = _ends(state)
    if not ends:
        return (
            _record(decision, ABANDONED, ring_ms, answer_ms, 0, 0, 0) if state.abandoned else None
        )
    end = min(ends, key=lambda p: (p.event_ms, p.leg, p.sequence))
    outcome = ANSWERED if answer_ms else UNANSWERED
    return _record(
        decision, outcome, ring_ms, answer_ms, end.event_ms, end.q850_cause, end.release_side
    )


def _ends(state: CallState) -> list[ProgressFact]:
    return [p for p in state.progress if p.kind == Kind.ENDED]


def _record(
    decision: DecisionFact, outcome: int, ring: int, answer: int, end: int, cause: int, side: int
) -> CallRecord:
    return CallRecord(
        outcome, decision.time_ms, ring, answer, end, cause, side, decision.journal,
        decision.journal_sequence,
    )  # fmt: skip


def _first(state: CallState, kind: Kind) -> int:
    times = [p.event_ms for p in state.progress if p.kind == kind and p.leg == Leg.CALLEE]
    return min(times, default=0)


def due_record(state: CallState) -> tuple[CallState, CallRecord | None]:
    """The record to be written now, and the state that knows it was."""
    record = record_of(state)
    if record is None or record.digest == state.digest:
        return state, None
    return replace(state, written=state.written + 1, digest=record.digest), record


def record_event_id(carrier: str, call_id: str, call_ms: int, sequence: int) -> str:
    """The id of a record's event, the same whenever it is made again. The day tells calls apart
    whose id the switch used twice."""
    day = datetime.fromtimestamp(call_ms / 1000, UTC)
    return f"cdr-{day:%Y%m%d}-{carrier}/{call_id}-{sequence}"
