"""The tables of the index in PostgreSQL, and its statements, in SQLAlchemy Core. Pure.

Invariant: in every index the leaf follows the property, so that each filter reads leaves in order.
"""

from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, Insert, insert

from services.audit.domain import Filter

META: Final = sa.MetaData()
LOG: Final = sa.Table(
    "log", META,
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("claimed", sa.Text, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
)  # fmt: skip
EVENTS: Final = sa.Table(
    "events", META,
    sa.Column("leaf", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("event_id", sa.Text, nullable=False, index=True),
    sa.Column("type", sa.Text, nullable=False), sa.Column("time_ms", sa.BigInteger, nullable=False),
    sa.Column("tenant", sa.Text), sa.Column("binding", sa.Text), sa.Column("call", sa.Text),
    sa.Column("order_tag", sa.LargeBinary),
)  # fmt: skip
for _name in ("type", "tenant", "binding", "call", "order_tag"):
    _column = EVENTS.c[_name]
    sa.Index(f"events_by_{_name}", _column, EVENTS.c.leaf, postgresql_where=_column.is_not(None))


def _pairs(name: str, column: sa.Column[Any]) -> sa.Table:
    leaf = sa.Column("leaf", sa.BigInteger, primary_key=True, autoincrement=False, index=True)
    return sa.Table(name, META, column, leaf)


NUMBERS: Final = _pairs("numbers", sa.Column("number", sa.Text, primary_key=True))
PARTIES: Final = _pairs("parties", sa.Column("tag", sa.LargeBinary, primary_key=True))
BUCKETS: Final = _pairs("buckets", sa.Column("bucket", sa.Text, primary_key=True))
TERMS: Final = sa.Table(
    "terms", META,
    sa.Column("tenant", sa.Text, primary_key=True), sa.Column("binding", sa.Text, primary_key=True),
    sa.Column("number", sa.Text, nullable=False), sa.Column("leaf", sa.BigInteger, nullable=False),
    sa.Column("since_ms", sa.BigInteger, nullable=False),
    sa.Column("until_ms", sa.BigInteger, nullable=False),
    sa.Column("ended", sa.Boolean, nullable=False),
    sa.Index("terms_by_life", "number", "until_ms", "since_ms"),
)  # fmt: skip
SPANS: Final = sa.Table(
    "spans", META,
    sa.Column("span", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("earliest", sa.BigInteger, nullable=False),
    sa.Column("latest", sa.BigInteger, nullable=False),
)  # fmt: skip


def select(wanted: Filter, first: int, below: int, limit: int) -> sa.Select[Any]:
    """The leaves in [first, below) that the filter lets through."""
    event = EVENTS.c
    query = sa.select(event.leaf)
    for table, column, value in (
        (NUMBERS, NUMBERS.c.number, wanted.number or None),
        (PARTIES, PARTIES.c.tag, wanted.party),
    ):
        if value is not None:
            query = query.join(table, table.c.leaf == event.leaf).where(column == value)
    for column, value in (
        (event.order_tag, wanted.order_tag),
        (event.call, wanted.call or None),
        (event.binding, wanted.binding or None),
        (event.type, wanted.type or None),
        (event.tenant, wanted.tenant or None),
    ):
        if value is not None:
            query = query.where(column == value)
    if wanted.start_ms is not None:
        query = query.where(event.time_ms >= wanted.start_ms)
    if wanted.end_ms is not None:
        query = query.where(event.time_ms < wanted.end_ms)
    query = query.where(event.leaf >= first, event.leaf < below)
    return query.order_by(event.leaf).limit(limit)


def many(table: sa.Table, **columns: list[Any]) -> Insert:
    """Inserts rows that are given as columns: one statement, whatever their number."""
    arrays = [
        sa.bindparam(None, values, type_=ARRAY(table.c[name].type))
        for name, values in columns.items()
    ]
    rows = sa.func.unnest(*arrays).table_valued(*columns).render_derived()
    return insert(table).from_select([*columns], sa.select(rows))


def live(statement: Insert) -> Insert:
    """Of what is in TERMS already: what ended stays so; till then the latest end counts."""
    old, new = TERMS.c, statement.excluded
    until = sa.case(
        (~old.ended & new.ended, new.until_ms),
        (old.ended & ~new.ended, old.until_ms),
        (old.ended, sa.func.least(old.until_ms, new.until_ms)),
        else_=sa.func.greatest(old.until_ms, new.until_ms),
    )
    changed = {"until_ms": until, "ended": old.ended | new.ended}
    return statement.on_conflict_do_update(index_elements=["tenant", "binding"], set_=changed)


def widen(statement: Insert) -> Insert:
    """Of what is in SPANS already: the earliest and latest of both."""
    old, new = SPANS.c, statement.excluded
    changed = {
        "earliest": sa.func.least(old.earliest, new.earliest),
        "latest": sa.func.greatest(old.latest, new.latest),
    }
    return statement.on_conflict_do_update(index_elements=["span"], set_=changed)
