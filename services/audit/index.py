"""Keeps the index of the log in one SQLite file (WAL).

Knows no event: rows come from `extract`; how a filter is asked, `indexquery` knows. Invariant: rows
and `size` are written in one transaction; WAL with synchronous=NORMAL may lose the last ones to a
power cut, never tear one.
"""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from services.audit.domain import Filter, IndexRow
from services.audit.indexquery import SPAN, select, time_bounds
from services.audit.ports import StorageConflict, Term
from services.audit.storage import index_away

_VERSION: Final = 4
# A NULL is in no partial index, and costs one octet in the row.
_SCHEMA: Final = f"""
CREATE TABLE log (claimed TEXT NOT NULL, size INTEGER NOT NULL);
INSERT INTO log VALUES ('', 0);
CREATE TABLE types (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE events (
    leaf INTEGER PRIMARY KEY, event_id TEXT NOT NULL, type INTEGER NOT NULL,
    time_ms INTEGER NOT NULL, tenant TEXT, binding TEXT, call TEXT, order_tag BLOB);
CREATE TABLE numbers (number TEXT, leaf INTEGER, PRIMARY KEY (number, leaf)) WITHOUT ROWID;
CREATE TABLE parties (tag BLOB, leaf INTEGER, PRIMARY KEY (tag, leaf)) WITHOUT ROWID;
CREATE TABLE terms (
    tenant TEXT, binding TEXT, number TEXT, leaf INTEGER, since_ms INTEGER, until_ms INTEGER,
    ended INTEGER, PRIMARY KEY (tenant, binding)) WITHOUT ROWID;
CREATE TABLE buckets (bucket TEXT, leaf INTEGER, PRIMARY KEY (bucket, leaf)) WITHOUT ROWID;
CREATE TABLE spans (span INTEGER PRIMARY KEY, earliest INTEGER, latest INTEGER);
CREATE INDEX by_id ON events (event_id);
CREATE INDEX by_type ON events (type);
CREATE INDEX by_tenant ON events (tenant) WHERE tenant IS NOT NULL;
CREATE INDEX by_binding ON events (binding) WHERE binding IS NOT NULL;
CREATE INDEX by_call ON events (call) WHERE call IS NOT NULL;
CREATE INDEX by_party_leaf ON parties (leaf);
CREATE INDEX by_life ON terms (number, until_ms, since_ms);
CREATE INDEX by_order ON events (order_tag) WHERE order_tag IS NOT NULL;
PRAGMA user_version = {_VERSION};
"""
_INSERT: Final = (
    "INSERT INTO events VALUES (?, ?, (SELECT id FROM types WHERE name = ?), ?, ?, ?, ?, ?)"
)
_FORGET: Final = (
    "UPDATE events SET order_tag = NULL WHERE leaf IN (SELECT leaf FROM buckets WHERE bucket = ?)",
    "DELETE FROM parties WHERE leaf IN (SELECT leaf FROM buckets WHERE bucket = ?)",
    "DELETE FROM buckets WHERE bucket = ?",
)
# What ended stays so; till then the latest end counts: what was when is for the events to say.
_LIVE: Final = (
    "INSERT INTO terms VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (tenant, binding) DO UPDATE SET "
    "until_ms = CASE WHEN ended < excluded.ended THEN excluded.until_ms "
    "WHEN ended > excluded.ended THEN until_ms WHEN ended THEN min(until_ms, excluded.until_ms) "
    "ELSE max(until_ms, excluded.until_ms) END, ended = max(ended, excluded.ended)"
)
_WIDEN: Final = (
    "INSERT INTO spans VALUES (?, ?, ?) ON CONFLICT (span) DO UPDATE SET "
    "earliest = min(earliest, excluded.earliest), latest = max(latest, excluded.latest)"
)


class SqliteIndex:
    """EventIndex in a file; made if it is missing. Each thread has a connection of its own."""

    def __init__(self, path: Path) -> None:
        """Raises StorageConflict if the file has another version's tables."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._local = threading.local()
        self._lock = threading.Lock()
        self._all: list[sqlite3.Connection] = []
        with self._writing() as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version == 0:
                for statement in _SCHEMA.split(";\n"):
                    connection.execute(statement)
            elif version != _VERSION:
                raise StorageConflict("the index is of another version; remove it, it is remade")

    def claim(self, log: str) -> None:
        with self._writing() as connection:
            connection.execute("UPDATE log SET claimed = ? WHERE claimed = ''", (log,))
            (claimed,) = connection.execute("SELECT claimed FROM log").fetchone()
        if claimed != log:
            raise StorageConflict("the index is another log's; remove it, it is made anew")

    @property
    def size(self) -> int:
        with self._reading() as connection:
            return _size(connection)

    def add(self, rows: Sequence[IndexRow]) -> None:
        with self._writing() as connection:
            size = _size(connection)
            fresh = [row for row in rows if row.leaf >= size]
            if not fresh:
                return
            if fresh[0].leaf != size:
                raise ValueError(f"the next leaf of the index is {size}, not {fresh[0].leaf}")
            _insert(connection, fresh)
            connection.execute("UPDATE log SET size = ?", (size + len(fresh),))

    def find(self, event_id: str) -> int | None:
        with self._reading() as connection:
            query = "SELECT min(leaf) FROM events WHERE event_id = ?"
            found: tuple[int | None] = connection.execute(query, (event_id,)).fetchone()
        return found[0]

    def has_tenant(self, tenant: str) -> bool:
        query = "SELECT 1 FROM events WHERE tenant = ? LIMIT 1"
        with self._reading() as connection:
            return connection.execute(query, (tenant,)).fetchone() is not None

    def lived(self, number: str, at_ms: int, limit: int) -> list[Term]:
        text = (
            "SELECT tenant, binding FROM terms WHERE number = ? AND until_ms > ? AND since_ms <= ? "
            "ORDER BY since_ms, leaf LIMIT ?"
        )
        with self._reading() as connection:
            found = connection.execute(text, (number, at_ms, at_ms, limit))
            return [Term(*each) for each in found]

    def parties(self, leaf: int) -> frozenset[bytes]:
        with self._reading() as connection:
            found = connection.execute("SELECT tag FROM parties WHERE leaf = ?", (leaf,))
            return frozenset(tag for (tag,) in found)

    def query(self, wanted: Filter, first: int, below: int, limit: int) -> list[int]:
        with self._reading() as connection:
            first, below = time_bounds(connection, wanted, first, below)
            if first >= below:
                return []
            text, values = select(wanted)
            values += [first, below, limit]
            return [leaf for (leaf,) in connection.execute(text, values)]

    def close(self) -> None:
        """Closes every thread's connection; nobody may be using one."""
        with self._lock:
            while self._all:
                self._all.pop().close()

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(
                self._path, timeout=10, isolation_level=None, check_same_thread=False
            )
            with self._lock:
                self._all.append(connection)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            # Tags that are forgotten are overwritten in the file, not just unlinked (R16).
            connection.execute("PRAGMA secure_delete = ON")
            connection.execute("PRAGMA cache_size = -32768")  # 32 MiB: the edges of all indexes
            self._local.connection = connection
        return connection

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with _answering():
            yield self._connection()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with _answering():
            connection = self._connection()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # a full disk may have rolled it back already
                    connection.execute("ROLLBACK")
                raise


@contextmanager
def _answering() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        away = index_away(error)
        if away is None:
            raise
        raise away from None


def _size(connection: sqlite3.Connection) -> int:
    (size,) = connection.execute("SELECT size FROM log").fetchone()
    return int(size)


def _insert(connection: sqlite3.Connection, rows: Sequence[IndexRow]) -> None:
    names = {row.type for row in rows}
    connection.executemany("INSERT OR IGNORE INTO types (name) VALUES (?)", [(n,) for n in names])
    connection.executemany(
        _INSERT,
        [
            (
                row.leaf,
                row.event_id,
                row.type,
                row.time_ms,
                row.tenant or None,
                row.binding or None,
                row.call or None,
                row.order_tag,
            )
            for row in rows
        ],
    )
    connection.executemany(
        "INSERT OR IGNORE INTO numbers VALUES (?, ?)",
        [(number, row.leaf) for row in rows for number in row.numbers],
    )
    connection.executemany(
        "INSERT OR IGNORE INTO parties VALUES (?, ?)",
        [(tag, row.leaf) for row in rows for tag in row.parties],
    )
    connection.executemany(
        _LIVE,
        [
            (
                row.tenant,
                row.binding,
                row.numbers[0],
                row.leaf,
                row.time_ms,
                row.until_ms,
                row.ended,
            )
            for row in rows
            if row.until_ms is not None and row.numbers
        ],
    )
    connection.executemany(
        "INSERT OR IGNORE INTO buckets VALUES (?, ?)",
        [(row.bucket, row.leaf) for row in rows if row.bucket],
    )
    # Tags are only in what can be erased, and are erased with their bucket (design decision 12).
    for bucket in {row.purged for row in rows if row.purged}:
        for statement in _FORGET:
            connection.execute(statement, (bucket,))
    spans: dict[int, tuple[int, int]] = {}
    for row in rows:
        low, high = spans.get(row.leaf // SPAN, (row.time_ms, row.time_ms))
        spans[row.leaf // SPAN] = min(low, row.time_ms), max(high, row.time_ms)
    connection.executemany(_WIDEN, [(span, *times) for span, times in spans.items()])
