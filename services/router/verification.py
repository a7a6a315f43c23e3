"""Asks a verifier about calls that would be connected (R15), or does without its answer. Pure.

Refuses to ask about a call that is refused anyway. Invariant: no call waits longer than the
verifier's own budget, and one that does not answer is left in peace for a while, so it cannot hold
up calls that the policy lets through. Nothing of this runs where no verifier is configured.
"""

import threading
from collections import OrderedDict
from enum import Enum
from typing import Final, NamedTuple

from services.router.domain import Decision, Refusal, Verdict
from services.router.ports import Unverified, Verifier
from services.runtime.clock import Clock

_KEPT: Final = 100_000  # verdicts, about 200 octets each
_FAILURES: Final = 5  # in a row, then
_PEACE_MS: Final = 1000  # nobody asks for so long


class Policy(Enum):
    """What holds without an answer."""

    OPEN = "open"  # the call goes on
    CLOSED = "closed"  # the call is refused
    CACHED = "cached"  # the last verdict on this version of the binding, however old; else refused


class _Known(NamedTuple):
    genuine: bool
    until_ms: int


class Verification:
    """Turns a decision to connect into one that was verified. Safe to call from many threads."""

    def __init__(self, verifier: Verifier, policy: Policy, clock: Clock) -> None:
        self._ask, self._policy, self._now = verifier.verify, policy, clock.epoch_ms
        self._known: OrderedDict[tuple[str, str, int], _Known] = OrderedDict()
        self._lock = threading.Lock()
        self._failures, self._peace_until = 0, 0

    def __call__(self, decision: Decision) -> Decision:
        """The same decision with its verdict, or a refusal in its place."""
        entry = decision.entry
        if decision.refusal is not None or entry is None:
            return decision
        place = entry.tenant, entry.binding, entry.version
        known = self._known.get(place)
        if known is not None and decision.time_ms < known.until_ms:
            return _judged(decision, known.genuine, Verdict.GENUINE_CACHED)
        genuine = self._answer(decision, place)
        if genuine is not None:
            return _judged(decision, genuine, Verdict.GENUINE)
        if self._policy is Policy.OPEN:
            return decision._replace(verdict=Verdict.UNANSWERED)
        if self._policy is Policy.CACHED and known is not None:
            return _judged(decision, known.genuine, Verdict.GENUINE_CACHED)
        return decision._replace(refusal=Refusal.UNVERIFIED, callee="", verdict=Verdict.UNANSWERED)

    def _answer(self, decision: Decision, place: tuple[str, str, int]) -> bool | None:
        """The verifier's word, or None."""
        if self._now() < self._peace_until:
            return None
        try:
            genuine, valid_ms = self._ask(decision)
        except Unverified:
            with self._lock:
                self._failures += 1
                if self._failures >= _FAILURES:
                    self._failures, self._peace_until = 0, self._now() + _PEACE_MS
            return None
        with self._lock:
            self._failures = 0
            self._known[place] = _Known(genuine, decision.time_ms + valid_ms)
            self._known.move_to_end(place)
            if len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return genuine


def _judged(decision: Decision, genuine: bool, verdict: Verdict) -> Decision:
    """`verdict` is that of a genuine one; the other stands beside it."""
    if genuine:
        return decision._replace(verdict=verdict)
    denied = Verdict(verdict + 1)
    return decision._replace(refusal=Refusal.NOT_GENUINE, callee="", verdict=denied)
