"""The latest call counts, until A may not call back any more."""

import itertools

import pytest

from services.router.lastcalls import ENDS, LAST, LastCall, apply, purge, with_last_caller
from services.router.view import Copy
from tests.unit.router.decisions import ENTRY
from tests.unit.router.routes import NUMBER, MemoryTables

MINUTE = 60_000


def call(time_ms: int, box: bytes = b"box", expire_ms: int = 0) -> LastCall:
    return LastCall(NUMBER, ENTRY.binding, time_ms, expire_ms or time_ms + MINUTE, Copy("k", box))


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_latest_call_counts_in_any_order(order: tuple[int, ...]) -> None:
    calls, tables = [call(1, b"a"), call(5, b"b"), call(3, b"c")], MemoryTables()
    for place in order:
        apply(tables, calls[place])
    assert not apply(tables, calls[1])
    found = with_last_caller(tables.get, NUMBER, ENTRY._replace(key_id="", box=b""))
    assert (found.key_id, found.box) == ("k", (5).to_bytes(8) + b"b")
    assert len(tables.tables[ENDS]) == 1


def test_who_called_is_dropped_when_nobody_may_call_back() -> None:
    tables = MemoryTables()
    apply(tables, call(1))
    apply(tables, call(2, b"later", 3 * MINUTE))
    assert purge(tables, 3 * MINUTE - 1) == 0
    assert purge(tables, 3 * MINUTE) == 1
    assert (tables.tables[LAST], tables.tables[ENDS]) == ({}, {})
    assert with_last_caller(tables.get, NUMBER, ENTRY) == ENTRY


def test_another_binding_has_none_of_it() -> None:
    tables = MemoryTables()
    apply(tables, call(1))
    other = ENTRY._replace(binding="b9")
    assert with_last_caller(tables.get, NUMBER, other) == other
