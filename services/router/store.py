"""The view in LMDB: one process writes it, every worker of the pod reads it.

The writer applies records and their Kafka positions in one transaction. The reader takes one read
transaction per call. Refuses to wait: a reader never waits for the writer, nor the other way round.

Invariant: within a process no transaction is open while the map's size changes (LMDB's rule), which
the one lock of each class guarantees. It is held for microseconds.
"""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import lmdb

from services.router import view, viewfile
from services.router.ports import Found
from services.router.view import Copy, Route, RouteKey, Tombstone
from services.router.viewfile import FRESH, META, POSITIONS
from services.runtime.clock import Clock, SystemClock
from services.runtime.record import Record

Applied = Route | Tombstone | RouteKey
_NOTHING: Final = Found((), "", b"", None)


class PartyTagger(Protocol):
    """Makes the blind tag of a real number (`sealing.Tagger`)."""

    def party(self, tenant: str, e164: str) -> bytes: ...


class LmdbTables:
    """The view's tables inside one LMDB transaction."""

    def __init__(self, txn: Any, databases: Mapping[bytes, Any]) -> None:
        self._txn, self._databases = txn, databases

    def get(self, table: bytes, key: bytes) -> bytes | None:
        value: bytes | None = self._txn.get(key, db=self._databases[table])
        return value

    def put(self, table: bytes, key: bytes, value: bytes) -> None:
        self._txn.put(key, value, db=self._databases[table])

    def delete(self, table: bytes, key: bytes) -> None:
        self._txn.delete(key, db=self._databases[table])

    def first(self, table: bytes) -> bytes | None:
        with self._txn.cursor(db=self._databases[table]) as cursor:
            return cursor.key() if cursor.first() else None


class ViewWriter:
    """The only writer; a `consumer.Sink`. Open it once per folder, with the folder's lock held."""

    def __init__(self, folder: Path, clock: Clock | None = None) -> None:
        self._clock: Clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._env, self.rebuilt_because = viewfile.open_for_writing(folder, self._clock.epoch_ms())
        self._databases = {name: self._env.open_db(name) for name in viewfile.ALL_TABLES}
        self._path = viewfile.current(folder)

    def positions(self) -> dict[tuple[str, int], int]:
        """See Sink."""
        with self._lock, self._env.begin(db=self._databases[POSITIONS]) as txn:
            return {_position(key): int.from_bytes(value) for key, value in txn.cursor()}

    def apply(
        self, items: Sequence[tuple[Record, Applied]], positions: Mapping[tuple[str, int], int]
    ) -> None:
        """See Sink. A crash before the commit leaves the old view with its old positions."""
        self._write(lambda tables: self._fold(tables, items, positions))

    def _fold(
        self,
        tables: LmdbTables,
        items: Sequence[tuple[Record, Applied]],
        positions: Mapping[tuple[str, int], int],
    ) -> None:
        for record, change in items:
            stored = tables.get(POSITIONS, _position_key(record.topic, record.partition)) or b""
            if record.offset >= int.from_bytes(stored):
                view.apply(tables, change)
        for (topic, partition), offset in positions.items():
            tables.put(POSITIONS, _position_key(topic, partition), offset.to_bytes(8))

    def tick(self, fresh_at: float) -> None:
        """Once a second or so: stores the view's freshness (seconds, 0: never yet), drops graves
        that are over, frees the pages that dead readers hold, and starts the disk writing."""

        def write(tables: LmdbTables) -> None:
            if fresh_at:
                tables.put(META, FRESH, int(fresh_at * 1000).to_bytes(8))
            view.purge(tables, self._clock.epoch_ms())

        self._write(write)
        self._env.reader_check()
        self._env.sync(True)

    def _write(self, change: Any) -> None:
        with self._lock:
            while True:
                try:
                    with self._env.begin(write=True) as txn:
                        change(LmdbTables(txn, self._databases))
                    return
                except lmdb.MapFullError:  # the transaction is aborted whole; readers see the
                    self._env.set_mapsize(
                        2 * self._env.info()["map_size"]
                    )  # new size by themselves

    def close(self) -> None:
        """Ends cleanly: the next start trusts the file even after a reboot."""
        with self._lock:
            self._env.sync(True)
            self._env.close()
            viewfile.mark(self._path, "closed")


class ViewReader:
    """Reads the view in a worker. Until there is one, `find` finds nothing and `fresh_ms` is 0.

    `refresh` looks for a new file and for the newest freshness; call it a few times a second. So
    the age that a call is judged by errs on the old side, by less than that interval.
    """

    def __init__(self, folder: Path, tagger: PartyTagger) -> None:
        self._folder, self._party = folder, tagger.party
        self._lock = threading.Lock()  # guards the environment and every transaction on it
        self._env: lmdb.Environment | None = None
        self._path: Path | None = None
        self._slots: Any = None
        self._blocks: Any = None
        self._keys: Any = None
        self._meta: Any = None
        # Tenants by block, forgotten at every refresh. A block that nobody had is never in it, so
        # a first binding is found at once.
        self._tenants: dict[str, list[str]] = {}
        self._fresh_ms = 0
        self.refresh()

    def fresh_ms(self) -> int:
        """See Routes."""
        return self._fresh_ms

    def find(self, number: str, caller: str) -> Found:
        """See Routes."""
        with self._lock:
            if self._env is None:
                return _NOTHING
            try:
                with self._env.begin() as txn:
                    return self._find(txn, number, caller)
            except lmdb.MapResizedError:
                self._env.set_mapsize(0)  # takes over the writer's size; no transaction is open
                with self._env.begin() as txn:
                    return self._find(txn, number, caller)

    def _find(self, txn: Any, number: str, caller: str) -> Found:
        names = self._tenants.get(number[:11])
        if names is None:
            block = txn.get(number[:11].encode(), db=self._blocks)
            if block is None:
                return _NOTHING
            names = self._tenants[number[:11]] = [name for name, _ in view.tenants(block)]
        first = b""
        if caller:
            for tenant in names:  # one, but while a block changes hands
                tag = self._party(tenant, caller)
                slot = txn.get(view.slot_key(number, tag), db=self._slots)
                if slot is not None:
                    return Found(names, tenant, tag, view.unpack_entry(slot))
                first = first or tag
        return Found(names, names[0], first, None)

    def wrapped(self, key_id: str) -> Copy | None:
        """A route key as it came, wrapped."""
        value = self._get("_keys", key_id.encode())
        if value is None:
            return None
        name, _, box = value.partition(b"\n")
        return Copy(name.decode(), box)

    def refresh(self) -> None:
        """Opens the file that counts, if it is another one, and reads how fresh it is."""
        self._tenants = {}
        try:
            path = viewfile.current(self._folder)
            if path != self._path:
                self._reopen(path)
            self._fresh_ms = int.from_bytes(self._get("_meta", FRESH) or b"")
        except (viewfile.Unusable, lmdb.Error):
            return  # no usable view: what is known ages, and past its limit refuses

    def _get(self, table: str, key: bytes) -> bytes | None:
        with self._lock:
            if self._env is None:
                return None
            while True:
                try:
                    with self._env.begin(db=getattr(self, table)) as txn:
                        value: bytes | None = txn.get(key)
                        return value
                except lmdb.MapResizedError:
                    self._env.set_mapsize(0)

    def _reopen(self, path: Path) -> None:
        env = viewfile.open_for_reading(path)
        try:
            opened = {
                name: env.open_db(name, create=False)
                for name in (view.SLOTS, view.BLOCKS, view.KEYS, META)
            }
        except lmdb.Error:
            env.close()
            raise
        with self._lock:
            old, self._env, self._path = self._env, env, path
            self._slots, self._blocks = opened[view.SLOTS], opened[view.BLOCKS]
            self._keys, self._meta = opened[view.KEYS], opened[META]
            self._tenants = {}
            if old is not None:
                old.close()

    def close(self) -> None:
        """Ends reading."""
        with self._lock:
            if self._env is not None:
                self._env.close()
            self._env = None


def _position_key(topic: str, partition: int) -> bytes:
    return topic.encode() + b"\x00" + partition.to_bytes(4)


def _position(key: bytes) -> tuple[str, int]:
    return key[:-5].decode(), int.from_bytes(key[-4:])
