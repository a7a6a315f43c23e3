"""What may become of a consent, and how it is shown."""

from dataclasses import replace

import pytest

from services.binding.consent import NOTICES, ConsentState, Mark, Parties, Policy
from services.binding.domain import Answered
from services.runtime.errors import FailedPrecondition
from tests.unit.binding.memory import DAY_MS
from tests.unit.binding.memory_consents import consent

NOW = 1_800_000_000_000
MADE = consent(NOW, "c1")


def request(at: int) -> Answered:
    return Answered(f"r{at}", b"h" * 16, at, 0)


def test_a_withdrawal_goes_through_its_states_and_never_back() -> None:
    asked = MADE.asked(request(NOW + 1), "1", "zh")
    again = asked.asked(request(NOW + 2), "1", "en")
    gone = again.confirmed(request(NOW + 3), 600_000)
    done = gone.drained(NOW + 4)
    states = [each.state.name for each in (MADE, asked, again, gone, done)]
    assert states == [
        "ACTIVE", "WITHDRAWAL_REQUESTED", "WITHDRAWAL_REQUESTED", "DRAINING", "WITHDRAWN",
    ]  # fmt: skip
    assert [each.version for each in (MADE, asked, again, gone, done)] == [1, 2, 3, 4, 5]
    assert [str(each.mark)[:4] for each in (MADE, again, gone, done)] == [
        "1:L:", "1:L:", "1:D:", "1:W:",
    ]  # fmt: skip
    assert [r.version for r in done.requests] == [1, 2, 3, 4]
    for ended in (gone, done):
        with pytest.raises(FailedPrecondition):
            ended.asked(request(NOW + 5), "1", "zh")
        with pytest.raises(FailedPrecondition):
            ended.confirmed(request(NOW + 5), 1)


def test_nothing_is_confirmed_unasked_or_a_day_later() -> None:
    with pytest.raises(FailedPrecondition, match="CONFIRMATION_INVALID"):
        MADE.confirmed(request(NOW), 1)
    asked = MADE.asked(request(NOW), "1", "zh")
    with pytest.raises(FailedPrecondition, match="CONFIRMATION_INVALID"):
        asked.confirmed(request(NOW + DAY_MS), 1)
    assert asked.confirmed(request(NOW + DAY_MS - 1), 1).withdrawn


def test_what_is_due_follows_the_state() -> None:
    gone = MADE.asked(request(NOW), "1", "zh").confirmed(request(NOW), 5000)
    assert gone.due_ms == 0
    assert gone.end_ms == NOW + 5000
    assert gone.drained(NOW).due_ms == NOW + 5000 + 184 * DAY_MS
    assert MADE.due_ms == MADE.expire_ms + 184 * DAY_MS


def test_it_is_shown_as_it_counts() -> None:
    assert MADE.seen(NOW, newest=True) is ConsentState.ACTIVE
    assert MADE.seen(NOW, newest=False) is ConsentState.SUPERSEDED
    assert MADE.seen(MADE.expire_ms, newest=True) is ConsentState.EXPIRED
    gone = replace(MADE, state=ConsentState.WITHDRAWN)
    assert gone.seen(MADE.expire_ms, newest=False) is ConsentState.WITHDRAWN


def test_old_requests_are_forgotten() -> None:
    late = MADE.asked(request(NOW + 2 * DAY_MS), "1", "zh")
    assert [r.time_ms for r in late.requests] == [NOW + 2 * DAY_MS]


def test_marks_are_what_they_say() -> None:
    assert Mark.parse(str(MADE.mark)) == MADE.mark
    pool = "tenants/didi/pools/city"
    policy = Policy("didi", Parties.BOTH, 1, {pool: Parties.A, f"{pool}-2": Parties.NONE}, 3)
    assert policy.mark == f"3:AB\n{pool}=A\n{pool}-2=\n"
    assert Policy("didi").mark == "0:\n"


def test_every_language_has_a_text_of_its_version() -> None:
    assert set(NOTICES) == {"zh", "en"}
    assert len({notice.version for notice in NOTICES.values()}) == 1
    assert all(notice.locale == locale and notice.text for locale, notice in NOTICES.items())


def test_a_repr_shows_no_person() -> None:
    assert repr(MADE) == "<Consent c1 version 1 ACTIVE>"
