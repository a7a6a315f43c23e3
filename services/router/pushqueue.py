"""Events on their way to platforms, in one SQLite file of the push process.

Each batch of records is one transaction: new events, what they belong to, and input positions. An
event leaves the queue once a platform has taken it. Refuses to let a binding's event overtake one
before it. Invariant: an input position never passes an event that is neither delivered, nor queued,
nor parked; each event id is queued once, and its `sequence` counts the binding's events from 1.
"""

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from services.router.pushevents import PushItem
from services.runtime.consumer import Position
from services.runtime.record import Record

BATCH: Final = 50
_DAY_MS: Final = 86_400_000
_KNOWN_MS: Final = 2 * _DAY_MS  # repeats of an event, and late reports of a call, come within it
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS positions (
  topic TEXT, part INTEGER, next INTEGER, PRIMARY KEY (topic, part)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS seen (id TEXT PRIMARY KEY, until INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS calls (
  key TEXT PRIMARY KEY, tenant TEXT, binding TEXT, until INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lanes (
  tenant TEXT, lane TEXT, sequence INTEGER, about BLOB, until INTEGER,
  PRIMARY KEY (tenant, lane)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, tenant TEXT, lane TEXT, sequence INTEGER, id TEXT,
  type TEXT, time INTEGER, binding TEXT, call TEXT, value BLOB,
  tries INTEGER DEFAULT 0, first INTEGER DEFAULT 0, next INTEGER DEFAULT 0,
  parked INTEGER DEFAULT 0);
CREATE INDEX IF NOT EXISTS unparked ON events (tenant, seq) WHERE parked = 0;
CREATE INDEX IF NOT EXISTS resting ON events (tenant, next) WHERE next > 0;
CREATE INDEX IF NOT EXISTS tried ON events (first) WHERE first > 0;
CREATE INDEX IF NOT EXISTS calls_until ON calls (until);
CREATE INDEX IF NOT EXISTS seen_until ON seen (until);
CREATE INDEX IF NOT EXISTS lanes_until ON lanes (until);
"""
# From one tenant to the next in the index: DISTINCT would pass by every event that waits.
_TENANTS: Final = """
WITH RECURSIVE found (tenant) AS (
  SELECT min(tenant) FROM events WHERE parked = 0 UNION ALL
  SELECT (SELECT min(tenant) FROM events WHERE parked = 0 AND tenant > found.tenant)
  FROM found WHERE tenant IS NOT NULL)
SELECT tenant FROM found WHERE tenant IS NOT NULL
"""
_COLUMNS: Final = "seq, tenant, lane, sequence, id, type, time, binding, call, value, tries"


class Queued(NamedTuple):
    """An event that waits. `about` is the value of its binding's newest event, if known."""

    place: int
    sequence: int
    tries: int
    item: PushItem
    about: bytes | None


class PushQueue:
    """A `consumer.Sink`, and what the sender takes from. Safe to share between threads."""

    def __init__(self, path: Path, wanted: Callable[[str], bool], now_ms: Callable[[], int]):
        path.parent.mkdir(parents=True, exist_ok=True)
        self._wanted, self._now = wanted, now_ms
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.executescript(f"PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;{_SCHEMA}")

    def positions(self) -> dict[Position, int]:
        """See Sink."""
        with self._lock:
            rows = self._db.execute("SELECT topic, part, next FROM positions").fetchall()
        return {(topic, part): offset for topic, part, offset in rows}

    def void(self, positions: Mapping[Position, str]) -> None:
        """See Sink. Reading again is harmless: what was queued once is known by its id."""
        with self._change():
            self._db.executemany("DELETE FROM positions WHERE topic=? AND part=?", positions)

    def apply(
        self, items: Sequence[tuple[Record, PushItem | None]], positions: Mapping[Position, int]
    ) -> None:
        """See Sink. Tenants that have no endpoint are passed over."""
        with self._change():
            for table in ("seen", "calls", "lanes"):
                self._db.execute(f"DELETE FROM {table} WHERE until < ?", (self._now(),))
            stored = {
                (topic, part): offset
                for topic, part, offset in self._db.execute("SELECT * FROM positions")
            }
            for record, item in items:
                at = stored.get((record.topic, record.partition), 0)
                if item is not None and record.offset >= at:
                    self._enqueue(item)
            self._db.executemany(
                "INSERT OR REPLACE INTO positions VALUES (?, ?, ?)",
                [(topic, part, offset) for (topic, part), offset in positions.items()],
            )

    @contextlib.contextmanager
    def _change(self) -> Iterator[None]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def _enqueue(self, item: PushItem) -> None:
        tenant, binding, until = item.tenant, item.binding, self._now() + _KNOWN_MS
        if item.call and tenant:
            row = (item.call, tenant, binding, until)
            self._db.execute("INSERT OR REPLACE INTO calls VALUES (?, ?, ?, ?)", row)
        elif item.call:
            found = self._db.execute(
                "SELECT tenant, binding FROM calls WHERE key=?", (item.call,)
            ).fetchone()
            tenant, binding = found or ("", "")
        if not tenant or not self._wanted(tenant):
            return
        new = self._db.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (item.event_id, until))
        if not new.rowcount:
            return
        lane = binding or item.call
        about = item.value if not item.call else None
        # A live binding's lane stays; an ended one's as long as anything of it may still come.
        rest = None if about is not None and not item.ended else until
        self._db.execute(
            "INSERT INTO lanes VALUES (?, ?, 1, ?, ?) ON CONFLICT DO UPDATE SET "
            "sequence = sequence + 1, about = coalesce(excluded.about, about), "
            "until = CASE WHEN ? THEN excluded.until WHEN until IS NULL THEN NULL "
            "ELSE max(until, excluded.until) END",
            (tenant, lane, about, rest, about is not None),
        )
        (sequence,) = self._db.execute(
            "SELECT sequence FROM lanes WHERE tenant=? AND lane=?", (tenant, lane)
        ).fetchone()
        self._db.execute(
            "INSERT INTO events (tenant, lane, sequence, id, type, time, binding, call, value) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                tenant, lane, sequence, item.event_id, item.type, item.time_ms, binding, item.call,
                item.value,
            ),
        )  # fmt: skip

    def tenants(self) -> list[str]:
        """Those for whom something waits."""
        with self._lock:
            rows = self._db.execute(_TENANTS).fetchall()
        return [tenant for (tenant,) in rows]

    def due(self, tenant: str) -> list[Queued]:
        """The next events to send together, oldest first: at most `BATCH`. One that was refused
        goes alone, and while it rests its binding's later events wait behind it."""
        with self._lock:
            rows = self._db.execute(
                f"SELECT {_COLUMNS}, (SELECT about FROM lanes WHERE lanes.tenant=events.tenant "
                "AND lanes.lane=events.lane) FROM events WHERE tenant=? AND parked=0 AND lane NOT "
                # `next > 0` names the index that holds only those that rest.
                "IN (SELECT lane FROM events WHERE tenant=? AND parked=0 AND next > 0 "
                "AND next > ?) ORDER BY seq LIMIT ?",
                (tenant, tenant, self._now(), BATCH),
            ).fetchall()
        found = [_queued(row) for row in rows]
        if found and found[0].tries:
            return found[:1]
        retried = next((at for at, each in enumerate(found) if each.tries), len(found))
        return found[:retried]

    def delivered(self, events: Sequence[Queued]) -> None:
        """The platform has them."""
        with self._change():
            places = [(each.place,) for each in events]
            self._db.executemany("DELETE FROM events WHERE seq=?", places)

    def failed(self, events: Sequence[Queued], rest_ms: int, *, refused: bool) -> int:
        """The platform did not take them: `refused`: it answered that it will not. How many were
        parked, a day after their first try; the others are tried again."""
        now = self._now()
        with self._change():
            # Several that were refused together rest not, but go one by one.
            until = now + rest_ms if len(events) == 1 and refused else 0
            self._db.executemany(
                "UPDATE events SET first = CASE first WHEN 0 THEN ? ELSE first END, "
                "tries = tries + ?, next = ? WHERE seq=?",
                [(now, refused, until, each.place) for each in events],
            )
            parked = self._db.execute(
                "UPDATE events SET parked=1 WHERE parked=0 AND first > 0 AND first <= ?",
                (now - _DAY_MS,),
            )
        return parked.rowcount

    def redrive(self, tenant: str) -> int:
        """Takes the tenant's parked events up again; how many."""
        with self._change():
            done = self._db.execute(
                "UPDATE events SET parked=0, tries=0, first=0, next=0 WHERE tenant=? AND parked=1",
                (tenant,),
            )
        return done.rowcount

    def counts(self) -> tuple[int, int]:
        """How many wait, and how many are parked."""
        with self._lock:
            waiting, parked = self._db.execute(
                "SELECT count(*) - total(parked), total(parked) FROM events"
            ).fetchone()
        return int(waiting), int(parked)

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._db.close()


def _queued(row: tuple[object, ...]) -> Queued:
    place, tenant, _lane, sequence, event_id, kind, time_ms, binding, call, value, tries, about = (
        row
    )
    item = PushItem(event_id, kind, time_ms, tenant, binding, call, False, value)  # type: ignore[arg-type]
    return Queued(place, sequence, tries, item, about)  # type: ignore[arg-type]
