"""A verdict before a call is connected: by word, by memory, or by policy."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from services.router.domain import Decision, Refusal, Verdict
from services.router.handlers import Router
from services.router.ports import Unverified
from services.router.verification import Policy, Verification
from services.runtime.clock import ManualClock
from tests.unit.router.decisions import ENTRY, decision
from tests.unit.router.test_handlers import (
    BOUND,
    CLOCK,
    MemoryOpener,
    MemoryRecorder,
    MemoryRoutes,
    call,
)


class MemoryVerifier:
    """Says what it is told to; None: nothing."""

    def __init__(self, *answers: bool | None, valid_ms: int = 0) -> None:
        self._answers: Iterator[bool | None] = iter(answers)
        self.valid_ms, self.asked = valid_ms, 0

    def verify(self, decision: Decision) -> tuple[bool, int]:
        self.asked += 1
        answer = next(self._answers)
        if answer is None:
            raise Unverified
        return answer, self.valid_ms


def verification(
    verifier: MemoryVerifier, policy: Policy = Policy.CLOSED
) -> tuple[Verification, ManualClock]:
    clock = ManualClock()
    return Verification(verifier, policy, clock), clock


@pytest.mark.parametrize(
    ("policy", "answer", "refusal", "verdict"),
    [
        (Policy.CLOSED, True, None, Verdict.GENUINE),
        (Policy.OPEN, False, Refusal.NOT_GENUINE, Verdict.NOT_GENUINE),
        (Policy.OPEN, None, None, Verdict.UNANSWERED),
        (Policy.CLOSED, None, Refusal.UNVERIFIED, Verdict.UNANSWERED),
        (Policy.CACHED, None, Refusal.UNVERIFIED, Verdict.UNANSWERED),
    ],
)
def test_what_a_verdict_or_none_makes_of_a_call(
    policy: Policy, answer: bool | None, refusal: Refusal | None, verdict: Verdict
) -> None:
    verify, _ = verification(MemoryVerifier(answer), policy)
    judged = verify(decision())
    assert (judged.refusal, judged.verdict) == (refusal, verdict)
    assert bool(judged.callee) == (refusal is None)  # nobody learns whom a refused call was for


def test_nobody_is_asked_about_a_call_that_is_refused() -> None:
    verifier = MemoryVerifier()
    refused = decision(Refusal.EXPIRED)
    assert verification(verifier)[0](refused) is refused
    assert verifier.asked == 0


def test_a_verdict_holds_for_its_time_and_version() -> None:
    verifier = MemoryVerifier(True, True, False, valid_ms=1000)
    verify, _ = verification(verifier)
    first = decision()
    assert verify(first).verdict == Verdict.GENUINE
    assert verify(first._replace(time_ms=first.time_ms + 999)).verdict == Verdict.GENUINE_CACHED
    assert verifier.asked == 1
    assert verify(first._replace(time_ms=first.time_ms + 1000)).verdict == Verdict.GENUINE
    changed = first._replace(entry=ENTRY._replace(version=4))
    assert verify(changed).verdict == Verdict.NOT_GENUINE
    again = verify(changed)
    assert (again.refusal, again.verdict) == (Refusal.NOT_GENUINE, Verdict.NOT_GENUINE_CACHED)


@pytest.mark.parametrize("genuine", [True, False])
def test_the_cached_policy_holds_to_the_last_verdict(genuine: bool) -> None:
    verify, _ = verification(MemoryVerifier(genuine, None), Policy.CACHED)
    assert (verify(decision()).refusal is None) == genuine
    assert (verify(decision()).refusal is None) == genuine


def test_a_verifier_that_does_not_answer_is_left_in_peace_for_a_second() -> None:
    verifier = MemoryVerifier(*[None] * 5, True)
    verify, clock = verification(verifier, Policy.OPEN)
    for _ in range(9):
        assert verify(decision()).verdict == Verdict.UNANSWERED
    assert verifier.asked == 5
    clock.advance(timedelta(seconds=1))
    assert verify(decision()).verdict == Verdict.GENUINE


def test_the_router_records_what_was_verified() -> None:
    recorder = MemoryRecorder()
    verify, _ = verification(MemoryVerifier(False))
    router = Router(MemoryRoutes(BOUND), MemoryOpener(), recorder, CLOCK, 900_000, verify)
    answer = router.route(call())
    assert recorder.kept == [answer]
    assert (answer.refusal, answer.verdict) == (Refusal.NOT_GENUINE, Verdict.NOT_GENUINE)
