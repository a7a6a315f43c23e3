"""The view in LMDB: one process writes it, every worker of the pod reads it.

Records and Kafka positions are applied in one transaction. Neither side ever waits for the other.

Invariant: within a process no transaction is open while the map's size changes or the file is
closed (LMDB's rule): the writer's lock is held over both, and the reader counts its transactions.
"""

import threading
import time
from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import lmdb

from services.router import denials, lastcalls, view, viewfile
from services.router.denials import Denial, DenialEnd
from services.router.entries import unpack_entry
from services.router.ports import Found, PartyTagger
from services.router.routekeys import DailyDrop, standing
from services.router.view import Copy, Route, RouteKey, Tombstone
from services.router.viewfile import FRESH, META, POSITIONS, LmdbTables
from services.runtime.clock import Clock, SystemClock
from services.runtime.errors import Malformed
from services.runtime.parking import Parking
from services.runtime.record import Record

Applied = Route | lastcalls.LastCall | Tombstone | RouteKey | Denial | DenialEnd
_new, _unpack = tuple.__new__, unpack_entry
_NOTHING: Final = Found((), "", b"", None)
_PAUSE_SECONDS: Final = 0.0001


class ViewWriter:
    """The only writer; a `consumer.Sink`. Open it once per folder, with the folder's lock held."""

    def __init__(
        self, folder: Path, clock: Clock | None = None, parking: Parking | None = None
    ) -> None:
        self._clock: Clock = clock or SystemClock()
        self._parking = parking
        self._lock = threading.Lock()
        self._keys = DailyDrop()
        self._folder, self._begun = folder, 0.0
        self.published: Path | None = None  # the file that is written, once readers were given it
        found = viewfile.open_for_writing(folder, self._clock.epoch_ms())
        self._env, self._path, self.rebuilt_because = found
        self._databases = {name: self._env.open_db(name) for name in viewfile.ALL_TABLES}

    def positions(self) -> dict[tuple[str, int], int]:
        """See Sink."""
        with self._lock, self._env.begin(db=self._databases[POSITIONS]) as txn:
            return {viewfile.position(key): int.from_bytes(value) for key, value in txn.cursor()}

    def void(self, positions: Mapping[tuple[str, int], str]) -> None:
        """See Sink: folds a new view from the start; till it is fresh the old one is read."""
        with self._lock:
            self._close()
            self.published, self._begun = None, self._clock.epoch_ms() / 1000
            self._env, self._path = viewfile.begin(self._folder, self._clock.epoch_ms())
            self._databases = {name: self._env.open_db(name) for name in viewfile.ALL_TABLES}

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
            stored = (
                tables.get(POSITIONS, viewfile.position_key(record.topic, record.partition)) or b""
            )
            if record.offset >= int.from_bytes(stored):
                try:
                    denials.apply(tables, standing(change, self._clock.epoch_ms()))
                except Malformed as why:  # parked before the position moves past it
                    if self._parking is None:
                        raise
                    self._parking.park(record, why)
        for (topic, partition), offset in positions.items():
            tables.put(POSITIONS, viewfile.position_key(topic, partition), offset.to_bytes(8))

    def tick(self, fresh_at: float) -> None:
        """Once a second or so: stores the view's freshness (seconds, 0: never yet), drops graves
        and keys that are over, frees the pages that dead readers hold, and starts the disk writing.
        The first time, readers get the file."""
        if fresh_at < self._begun:  # asked before the view was begun anew
            fresh_at = 0
        now = self._clock.epoch_ms()

        def write(tables: LmdbTables) -> None:
            if fresh_at:
                tables.put(META, FRESH, int(fresh_at * 1000).to_bytes(8))
            denials.purge(tables, now)
            self._keys.drop(tables, now)

        self._write(write)
        self._keys.done(now)
        with self._lock:
            self._env.reader_check()
            self._env.sync(True)
            if fresh_at and self.published is None:
                viewfile.publish(self._folder, self._path)
                self.published = self._path

    def _write(self, change: Any) -> None:
        with self._lock:
            while True:
                try:
                    with self._env.begin(write=True) as txn:
                        change(LmdbTables(txn, self._databases))
                    return
                except lmdb.MapFullError:  # aborted whole; readers see the new size by themselves
                    self._env.set_mapsize(2 * self._env.info()["map_size"])

    def close(self) -> None:
        """Ends cleanly: the next start trusts the file even after a reboot."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        self._env.sync(True)
        self._env.close()
        viewfile.mark(self._path, "closed")


class _Opened:
    """A view's file as a worker has it open. `reading` has an item for each open transaction; while
    `paused`, none may begin."""

    def __init__(self, path: Path) -> None:
        self.path, self.paused, self.reading = path, False, list[None]()
        self.env = viewfile.open_for_reading(path)
        self.begin = self.env.begin
        try:
            self.tables = {n: self.env.open_db(n, create=False) for n in viewfile.ALL_TABLES}
            self.slots, self.blocks = self.tables[view.SLOTS], self.tables[view.BLOCKS]
        except lmdb.Error:
            self.env.close()
            raise


class ViewReader:
    """Reads the view in a worker. Until there is one, `find` finds nothing and `fresh_ms` is 0.

    `refresh` looks for a new file and for the newest freshness; call it a few times a second. So
    the age that a call is judged by errs on the old side, by less than that interval.

    No lock is held over a look-up, and none is taken to count transactions: to append to a list and
    to take from it is one step each. Nor does a read of LMDB give up the interpreter.
    """

    def __init__(self, folder: Path, tagger: PartyTagger) -> None:
        self._folder, self._party = folder, tagger.party
        self._lock = threading.Lock()  # guards what is done to a file while nobody reads it
        self._opened: _Opened | None = None
        # Tenants by block, forgotten at every refresh. A block that nobody had is never in it, so
        # a first binding is found at once.
        self._tenants: dict[str, list[str]] = {}
        self._fresh_ms = 0
        self.denying: Container[str] = ()
        self.refresh()

    def fresh_ms(self) -> int:
        """See Routes."""
        return self._fresh_ms

    def find(self, number: str, caller: str, extension: str = "") -> Found:
        """See Routes."""
        opened, txn = self._begin()
        if opened is None:
            return _NOTHING
        try:
            key = number.encode()
            names = self._tenants.get(number[:11])
            if names is None:
                block = txn.get(key[:11], None, opened.blocks)
                if block is None:
                    return _NOTHING
                names = self._tenants[number[:11]] = [name for name, _ in view.tenants(block)]
            first, own = b"", None
            if caller:
                for tenant in names:  # one, but while a block changes hands
                    tag = self._party(tenant, caller)
                    slot = txn.get(key + tag, None, opened.slots)  # view.slot_key
                    if slot is not None:
                        entry = _unpack(slot)
                        if entry.mode == lastcalls.AXE:
                            entry = lastcalls.with_last_caller(
                                LmdbTables(txn, opened.tables).get, number, entry
                            )
                        own = _new(Found, (names, tenant, tag, entry, False))
                        break
                    first = first or tag
            if own is not None and not extension:
                return own
            get = LmdbTables(txn, opened.tables).get
            slot, asks = view.beside(get, number, extension, stranger=own is None)
            found = own or Found(names, names[0], first, None, asks)
            return found if slot is None else found.led_to(_unpack(slot))
        finally:
            txn.abort()
            opened.reading.pop()

    def denied(self, number: str, tenant: str, tag: bytes, callee: str, now_ms: int) -> bool:
        """See Routes. One snapshot, five reads of a microsecond each."""
        whom = self._party(tenant, callee)
        return bool(self._in(lambda t: denials.denied(t.get, number, tenant, tag, whom, now_ms)))

    def wrapped(self, key_id: str) -> Copy | None:
        """A route key as it came, wrapped."""
        value = self._read(view.KEYS, key_id.encode())
        if value is None:
            return None
        name, _, box = value.partition(b"\n")
        return Copy(name.decode(), box)

    def refresh(self) -> None:
        """Opens the file that counts, if it is another one, and reads how fresh it is."""
        self._tenants = {}
        try:
            path = viewfile.current(self._folder)
            if self._opened is None or path != self._opened.path:
                self._change(_Opened(path))
            fresh_ms = int.from_bytes(self._read(META, FRESH) or b"")
            # After it, and in force before it: no older than that says.
            names: list[bytes] = self._in(lambda tables: tables.names(denials.DENYING)) or []
            self.denying = frozenset(name.decode() for name in names)
            self._fresh_ms = fresh_ms
        except (viewfile.Unusable, lmdb.Error):
            return  # no usable view: what is known ages, and past its limit refuses

    def _read(self, table: bytes, key: bytes) -> bytes | None:
        found: bytes | None = self._in(lambda tables: tables.get(table, key))
        return found

    def _in(self, look: Callable[[LmdbTables], Any]) -> Any:
        """What a look into a snapshot finds; None without a view."""
        opened, txn = self._begin()
        if opened is None:
            return None
        try:
            return look(LmdbTables(txn, opened.tables))
        finally:
            txn.abort()
            opened.reading.pop()

    def _begin(self) -> tuple[_Opened | None, Any]:
        """A transaction on the file that counts; abort it at once, then take from `reading`."""
        while True:
            opened = self._opened
            if opened is None:
                return None, None
            opened.reading.append(None)  # first this, then the look: `_alone` does it crosswise
            txn = None
            try:
                if not opened.paused:
                    txn = opened.begin()
                    return opened, txn
            except lmdb.MapResizedError:
                pass
            finally:
                if txn is None:
                    opened.reading.pop()
            if opened.paused:
                time.sleep(_PAUSE_SECONDS)
            else:
                self._alone(opened, lambda opened: opened.env.set_mapsize(0))  # the writer's size

    def _alone(
        self, opened: _Opened, act: Callable[[_Opened], None], *, last: bool = False
    ) -> None:
        """Acts on the file while none of its transactions is open; each takes microseconds. After
        the last act none begins any more."""
        with self._lock:
            opened.paused = True
            try:
                while opened.reading:
                    time.sleep(_PAUSE_SECONDS)
                act(opened)
            finally:
                opened.paused = last

    def _change(self, opened: _Opened | None) -> None:
        old, self._opened = self._opened, opened
        self._tenants = {}
        if old is not None:
            self._alone(old, lambda old: old.env.close(), last=True)

    def close(self) -> None:
        """Ends reading."""
        self._change(None)
