"""An entry holds until its end, and says what is to be done with it when."""

import pytest

from services.binding.blacklist import EntryState, Kind, Mark, Target
from tests.unit.binding.memory import DAY_MS
from tests.unit.binding.memory_blacklist import entry

NOW = 1_800_000_000_000
A, B = b"a" * 16, b"b" * 16
NUMBER, PAIR = Target(A, b"", ""), Target(A, B, "tenants/didi/pools/x")


def test_targets_differ_by_whom_and_where_they_hold() -> None:
    assert (NUMBER.kind, PAIR.kind) == (Kind.NUMBER, Kind.PAIR)
    assert NUMBER.field == b"s" + A
    assert PAIR.field == b"p" + A + B + b"tenants/didi/pools/x"
    assert A.hex() not in repr(PAIR)
    assert str(A) not in repr(PAIR)


def test_a_mark_is_read_as_written() -> None:
    made = entry(NOW, "e1", NUMBER)
    assert Mark.parse(made.mark) == Mark(NOW, NOW + DAY_MS, "e1")


@pytest.mark.parametrize(
    ("later", "state"),
    [(0, EntryState.REMOVED), (DAY_MS - 1, EntryState.REMOVED), (DAY_MS, EntryState.EXPIRED)],
)
def test_it_is_removed_before_its_time_and_expired_after(later: int, state: EntryState) -> None:
    made = entry(NOW, "e1", NUMBER)
    assert (made.seen(NOW + later) is EntryState.ACTIVE) == (state is EntryState.REMOVED)
    assert made.due_ms == NOW + DAY_MS
    ended = made.ended(NOW + later)
    assert (ended.state, ended.version, ended.end_ms) == (state, 2, NOW + later)
    assert ended.seen(NOW + 9 * DAY_MS) is state
    assert (ended.active, ended.mark) == (False, "")
    assert ended.due_ms == NOW + later + DAY_MS
