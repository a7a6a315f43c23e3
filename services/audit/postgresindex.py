"""Keeps the index of the log in a PostgreSQL database of its own, through SQLAlchemy Core.

For several replicas of the service, or an index larger than one disk; `index` is the embedded one.
Knows no event: rows come from `extract`. Refuses a database with another version's tables.
Invariant: rows and `size` are written in one transaction, which holds the row of `log`, so several
processes may feed one index. Commits do not wait for the disk: a crash of the server may lose the
last ones whole, as the port allows.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from services.audit.domain import Filter, IndexRow
from services.audit.ports import StorageConflict, Term
from services.audit.postgrestables import (
    BUCKETS,
    EVENTS,
    LOG,
    META,
    NUMBERS,
    PARTIES,
    SPANS,
    TERMS,
    live,
    many,
    select,
    widen,
)
from services.runtime.errors import Unavailable

_VERSION: Final = 1
_SPAN: Final = 1024  # leaves whose earliest and latest time stand together
_LOCK: Final = 7_000_151  # of making the tables; no meaning but to be the same everywhere
_RETRY: Final = timedelta(seconds=1)


class PostgresIndex:
    """EventIndex in a database; its tables are made if they are missing."""

    def __init__(self, url: str) -> None:
        """`url`: `postgresql+psycopg://…`.

        Raises:
            StorageConflict: the database has another version's tables.
            Unavailable: INDEX_UNAVAILABLE.
        """
        # pre_ping: a connection that a restarted server dropped costs one round trip, no error.
        self._engine = sa.create_engine(url, pool_pre_ping=True, pool_size=16, max_overflow=16)
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def _prepare(self) -> None:
        with self._writing() as connection:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
            META.create_all(connection)
            version = connection.execute(sa.select(LOG.c.version)).scalar()
            if version is None:
                connection.execute(sa.insert(LOG).values(version=_VERSION, claimed="", size=0))
            elif version != _VERSION:
                raise StorageConflict("the index is of another version; drop it, it is remade")

    def claim(self, log: str) -> None:
        with self._writing() as connection:
            connection.execute(sa.update(LOG).where(LOG.c.claimed == "").values(claimed=log))
            if connection.execute(sa.select(LOG.c.claimed)).scalar_one() != log:
                raise StorageConflict("the index is another log's; drop it, it is made anew")

    @property
    def size(self) -> int:
        with self._reading() as connection:
            return int(connection.execute(sa.select(LOG.c.size)).scalar_one())

    def add(self, rows: Sequence[IndexRow]) -> None:
        with self._writing() as connection:
            connection.execute(sa.text("SET LOCAL synchronous_commit = off"))
            held = sa.select(LOG.c.size).with_for_update()
            size = int(connection.execute(held).scalar_one())
            fresh = [row for row in rows if row.leaf >= size]
            if not fresh:
                return
            if fresh[0].leaf != size:
                raise ValueError(f"the next leaf of the index is {size}, not {fresh[0].leaf}")
            _insert(connection, fresh)
            connection.execute(sa.update(LOG).values(size=size + len(fresh)))

    def find(self, event_id: str) -> int | None:
        found = sa.select(sa.func.min(EVENTS.c.leaf)).where(EVENTS.c.event_id == event_id)
        with self._reading() as connection:
            leaf: int | None = connection.execute(found).scalar_one()
        return leaf

    def has_tenant(self, tenant: str) -> bool:
        one = sa.select(EVENTS.c.leaf).where(EVENTS.c.tenant == tenant).limit(1)
        with self._reading() as connection:
            return connection.execute(one).first() is not None

    def lived(self, number: str, at_ms: int, limit: int) -> list[Term]:
        term = TERMS.c
        wanted = (
            sa.select(term.tenant, term.binding)
            .where(term.number == number, term.until_ms > at_ms, term.since_ms <= at_ms)
            .order_by(term.since_ms, term.leaf)
            .limit(limit)
        )
        with self._reading() as connection:
            return [Term(*found) for found in connection.execute(wanted)]

    def parties(self, leaf: int) -> frozenset[bytes]:
        wanted = sa.select(PARTIES.c.tag).where(PARTIES.c.leaf == leaf)
        with self._reading() as connection:
            return frozenset(bytes(tag) for tag in connection.execute(wanted).scalars())

    def query(self, wanted: Filter, first: int, below: int, limit: int) -> list[int]:
        with self._reading() as connection:
            first, below = _time_bounds(connection, wanted, first, below)
            if first >= below:
                return []
            found = connection.execute(select(wanted, first, below, limit))
            return [int(leaf) for leaf in found.scalars()]

    def close(self) -> None:
        """Closes the connections; nobody may be using one."""
        self._engine.dispose()

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        with _reachable(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        with _reachable(), self._engine.begin() as connection:
            yield connection


@contextmanager
def _reachable() -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        # Also after a commit whose answer was lost: `size` says what holds, and rows that are
        # added again are passed over. Its text is dropped: it may quote values.
        if error.connection_invalidated or isinstance(error, sa.exc.OperationalError):
            raise Unavailable(
                "INDEX_UNAVAILABLE", "the index does not answer", retry_after=_RETRY
            ) from None
        raise


def _time_bounds(
    connection: sa.Connection, wanted: Filter, first: int, below: int
) -> tuple[int, int]:
    """[first, below) without the spans at either end that lie outside the filter's time."""
    span = SPANS.c
    if wanted.start_ms is not None:
        found = connection.execute(
            sa.select(span.span)
            .where(span.span >= first // _SPAN, span.latest >= wanted.start_ms)
            .order_by(span.span)
            .limit(1)
        ).scalar()
        first = below if found is None else max(first, int(found) * _SPAN)
    if wanted.end_ms is not None:
        found = connection.execute(
            sa.select(span.span)
            .where(span.span <= below // _SPAN, span.earliest < wanted.end_ms)
            .order_by(span.span.desc())
            .limit(1)
        ).scalar()
        below = first if found is None else min(below, (int(found) + 1) * _SPAN)
    return first, below


def _insert(connection: sa.Connection, rows: Sequence[IndexRow]) -> None:
    connection.execute(
        many(
            EVENTS,
            leaf=[row.leaf for row in rows],
            event_id=[row.event_id for row in rows],
            type=[row.type for row in rows],
            time_ms=[row.time_ms for row in rows],
            tenant=[row.tenant or None for row in rows],
            binding=[row.binding or None for row in rows],
            call=[row.call or None for row in rows],
            order_tag=[row.order_tag for row in rows],
        )
    )
    for table, name, pairs in (
        (NUMBERS, "number", [(number, row.leaf) for row in rows for number in row.numbers]),
        (PARTIES, "tag", [(tag, row.leaf) for row in rows for tag in row.parties]),
        (BUCKETS, "bucket", [(row.bucket, row.leaf) for row in rows if row.bucket]),
    ):
        columns: dict[str, list[Any]] = {name: [value for value, _ in pairs]}
        columns["leaf"] = [leaf for _, leaf in pairs]
        connection.execute(many(table, **columns).on_conflict_do_nothing())
    _insert_terms(connection, rows)
    # Tags are only in what can be erased, and are erased with their bucket (design decision 12).
    for bucket in {row.purged for row in rows if row.purged}:
        bucket_leaves = sa.select(BUCKETS.c.leaf).where(BUCKETS.c.bucket == bucket)
        forget = sa.update(EVENTS).where(EVENTS.c.leaf.in_(bucket_leaves)).values(order_tag=None)
        connection.execute(forget)
        connection.execute(sa.delete(PARTIES).where(PARTIES.c.leaf.in_(bucket_leaves)))
        connection.execute(sa.delete(BUCKETS).where(BUCKETS.c.bucket == bucket))
    spans: dict[int, tuple[int, int]] = {}
    for row in rows:
        low, high = spans.get(row.leaf // _SPAN, (row.time_ms, row.time_ms))
        spans[row.leaf // _SPAN] = min(low, row.time_ms), max(high, row.time_ms)
    earliest, latest = zip(*spans.values(), strict=True)
    connection.execute(widen(many(SPANS, span=[*spans], earliest=[*earliest], latest=[*latest])))


def _insert_terms(connection: sa.Connection, rows: Sequence[IndexRow]) -> None:
    """One row a binding: a statement must not touch a row twice."""
    terms: dict[tuple[str, str], tuple[str, int, int, int, bool]] = {}
    for row in rows:
        if row.until_ms is None or not row.numbers:
            continue
        key, until, ended = (row.tenant, row.binding), row.until_ms, row.ended
        number, leaf, since, old_until, old_ended = terms.get(
            key, (row.numbers[0], row.leaf, row.time_ms, until, ended)
        )
        if old_ended != ended:
            until = old_until if old_ended else until
        else:
            until = min(old_until, until) if ended else max(old_until, until)
        terms[key] = number, leaf, since, until, old_ended or ended
    if terms:
        tenants, bindings = zip(*terms, strict=True)
        columns = zip(*terms.values(), strict=True)
        numbers, leaves, sinces, untils, ends = (list(column) for column in columns)
        connection.execute(
            live(
                many(
                    TERMS,
                    tenant=[*tenants],
                    binding=[*bindings],
                    number=numbers,
                    leaf=leaves,
                    since_ms=sinces,
                    until_ms=untils,
                    ended=ends,
                )
            )
        )
