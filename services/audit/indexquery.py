"""Turns a filter into SQLite's SQL over the tables of `index`. Pure.

Every filter is an index range in leaf order: the rarest property leads, the others are asked of
each of its leaves. Times nearly ascend with the leaves, so a time range is first cut down to a leaf
range by `spans`. Invariant: a value is never part of the text.
"""

import sqlite3
from dataclasses import dataclass
from typing import Final

from services.audit.domain import Filter

SPAN: Final = 1024  # leaves whose earliest and latest time stand together in `spans`


def time_bounds(
    connection: sqlite3.Connection, wanted: Filter, first: int, below: int
) -> tuple[int, int]:
    """[first, below) without the spans at either end that lie outside the filter's time."""
    if wanted.start_ms is not None:
        text = "SELECT span FROM spans WHERE span >= ? AND latest >= ? ORDER BY span LIMIT 1"
        found = connection.execute(text, (first // SPAN, wanted.start_ms)).fetchone()
        first = below if found is None else max(first, found[0] * SPAN)
    if wanted.end_ms is not None:
        text = "SELECT span FROM spans WHERE span <= ? AND earliest < ? ORDER BY span DESC LIMIT 1"
        found = connection.execute(text, (below // SPAN, wanted.end_ms)).fetchone()
        below = first if found is None else min(below, (found[0] + 1) * SPAN)
    return first, below


def select(wanted: Filter) -> tuple[str, list[str | int | bytes]]:
    """The statement and its values, without the leaf range and limit that end it."""
    given = [(term, value) for term, value in _terms(wanted) if value]
    lead = given[0][0] if given else _Term("events e", "", "")
    where = [term.leads if term is lead else term.follows for term, _ in given]
    values: list[str | int | bytes] = [value for _, value in given if value]
    if wanted.start_ms is not None:
        where.append("e.time_ms >= ?")
        values.append(wanted.start_ms)
    if wanted.end_ms is not None:
        where.append("e.time_ms < ?")
        values.append(wanted.end_ms)
    where += [f"{lead.leaf} >= ?", f"{lead.leaf} < ?"]
    text = f"SELECT {lead.leaf} FROM {lead.source} WHERE {' AND '.join(where)}"
    return f"{text} ORDER BY {lead.leaf} LIMIT ?", values


@dataclass(frozen=True, slots=True)
class _Term:
    """A property of a filter: what it reads and says as the one whose index leads, and after it."""

    source: str
    leads: str
    follows: str
    leaf: str = "e.leaf"


def _column(index: str, column: str, value: str = "?") -> _Term:
    # "+" keeps SQLite from choosing that index instead.
    equal = f"e.{column} = {value}"
    return _Term(f"events e INDEXED BY {index}", equal, f"+{equal}")


_ORDER: Final = _column("by_order", "order_tag")
_BINDING: Final = _column("by_binding", "binding")
_CALL: Final = _column("by_call", "call")


def _joined(table: str, column: str) -> _Term:
    return _Term(
        f"{table} t CROSS JOIN events e ON e.leaf = t.leaf",
        f"t.{column} = ?",
        f"EXISTS (SELECT 1 FROM {table} o WHERE o.{column} = ? AND o.leaf = e.leaf)",
        "t.leaf",
    )


_NUMBER: Final = _joined("numbers", "number")
_PARTY: Final = _joined("parties", "tag")
_TYPE: Final = _column("by_type", "type", "(SELECT id FROM types WHERE name = ?)")
_TENANT: Final = _column("by_tenant", "tenant")


def _terms(wanted: Filter) -> list[tuple[_Term, str | bytes | None]]:
    """The rarest property first."""
    return [
        (_ORDER, wanted.order_tag),
        (_CALL, wanted.call),
        (_BINDING, wanted.binding),
        (_PARTY, wanted.party),
        (_NUMBER, wanted.number),
        (_TYPE, wanted.type),
        (_TENANT, wanted.tenant),
    ]
