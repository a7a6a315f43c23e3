"""The LMDB files of the view in their folder: which one counts, whether it may be trusted, and its
tables.

`current` names the file that is read. A rebuild makes a new file, named by `next` until it holds
all routes; only then `current` moves, so that readers of the old one go on meanwhile, and notice.
Refuses a file of another format, one that is older than tombstones are kept (6 of 7 days), and one
that was open when the machine went down: commits are not fsynced one by one, since the view can
always be folded again from Kafka.

Invariant: the state beside a file says `open` (with the machine's boot id) before its first commit.
"""

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import lmdb

from services.router import denials, lastcalls
from services.router.view import FORMAT, TABLES

META, POSITIONS = b"meta", b"positions"
FRESH: Final = b"fresh"  # in META: ms since 1970, 8 octets
ALL_TABLES: Final = (*TABLES, *denials.TABLES, *lastcalls.TABLES, META, POSITIONS)

_MAX_AGE_MS: Final = 6 * 24 * 3600 * 1000
_FIRST_MAP: Final = 256 * 1024 * 1024  # doubled when full; address space, not memory or disk
_THREADS: Final = 8  # that read at once; a transaction beyond them is made anew each time
# Transactions of all processes together: 256 workers with their threads, at 64 octets each. With
# LMDB's own 126 a pod of 30 workers would fail calls. Whoever opens a file first makes the room.
_READERS: Final = 4096
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class Unusable(Exception):
    """There is no file of ours, or it must not be used; the message says why."""


def current(folder: Path) -> Path:
    """The file that counts. Raises Unusable if there is none."""
    return _named(folder, "current")


def _named(folder: Path, name: str) -> Path:
    try:
        found = (folder / name).read_text().strip()
    except OSError:
        raise Unusable("no view yet") from None
    path = folder / found
    if "/" in found or not path.is_file():
        raise Unusable("the view's file is missing")
    return path


def open_for_writing(folder: Path, now_ms: int) -> tuple[lmdb.Environment, Path, str]:
    """The environment and path of the file to go on with, or of a new one; and why it is new, or
    empty. `publish` it once it holds all routes."""
    folder.mkdir(parents=True, exist_ok=True)
    why = ""
    for name in ("next", "current"):  # a rebuild that was interrupted goes on
        try:
            path = _named(folder, name)
            env = _trusted(path, now_ms)
        except (lmdb.Error, Unusable) as error:
            why = _reason(error)
            continue
        mark(path, "open")
        return env, path, ""
    env, path = begin(folder, now_ms)
    try:
        readable = _readable(current(folder))
    except Unusable:
        readable = False
    if not readable:  # nobody must read what may be torn; an empty view is not fresh, and refuses
        publish(folder, path)
    return env, path, why


def begin(folder: Path, now_ms: int) -> tuple[lmdb.Environment, Path]:
    """A new, empty file to be folded into."""
    path = folder / f"view-{secrets.token_hex(4)}.lmdb"
    env = _opened(path)
    with env.begin(write=True) as txn:
        txn.put(FRESH + b"-since", now_ms.to_bytes(8), db=env.open_db(META, txn=txn))
    env.sync(True)
    mark(path, "open")
    _replace(folder / "next", path.name)
    return env, path


def publish(folder: Path, path: Path) -> None:
    """Lets readers have the file, and drops all others."""
    _replace(folder / "current", path.name)
    (folder / "next").unlink(missing_ok=True)
    for other in folder.glob("view-*"):
        if not other.name.startswith(path.name):
            other.unlink(missing_ok=True)


def _trusted(path: Path, now_ms: int) -> lmdb.Environment:
    _check_state(path)
    env = _opened(path)
    try:
        _check_age(env, now_ms)
    except (lmdb.Error, Unusable):
        env.close()
        raise
    return env


def _readable(path: Path) -> bool:
    """Whether those who know its format may go on reading it, however old it is."""
    state = _state(path)
    return state.get("state") == "closed" or state.get("boot") == _boot_id()


def mark(path: Path, state: str) -> None:
    """Says of a file, durably, that it is `open` for writing or was `closed` after a sync."""
    text = json.dumps({"format": FORMAT, "state": state, "boot": _boot_id()})
    _replace(path.with_name(path.name + ".state"), text)


def _state(path: Path) -> dict[str, Any]:
    try:
        state = json.loads(path.with_name(path.name + ".state").read_text())
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def _check_format(path: Path) -> None:
    state = _state(path)
    if not state:
        raise Unusable("the view's state is unreadable")
    if state.get("format") != FORMAT:
        raise Unusable("the view has another format")


def _check_state(path: Path) -> None:
    _check_format(path)
    if not _readable(path):
        raise Unusable("the machine went down while the view was open")


def _check_age(env: lmdb.Environment, now_ms: int) -> None:
    with env.begin() as txn:
        meta = env.open_db(META, txn=txn, create=False)
        since = txn.get(FRESH + b"-since", db=meta) or b""
        fresh = txn.get(FRESH, db=meta) or b""
    last = max(int.from_bytes(since), int.from_bytes(fresh))
    if last < now_ms - _MAX_AGE_MS:
        raise Unusable("the view is older than tombstones are kept")


def _opened(path: Path) -> lmdb.Environment:
    size = max(_FIRST_MAP, 2 * path.stat().st_size if path.exists() else 0)
    env = lmdb.open(
        str(path), subdir=False, map_size=size, max_dbs=len(ALL_TABLES), sync=False, metasync=False,
        max_readers=_READERS,
    )  # fmt: skip
    for table in ALL_TABLES:
        env.open_db(table)
    return env


def open_for_reading(path: Path) -> lmdb.Environment:
    """The environment for a process that only reads. Raises Unusable: another build wrote it."""
    _check_format(path)
    return lmdb.open(
        str(path), subdir=False, readonly=True, max_dbs=len(ALL_TABLES), readahead=False,
        max_spare_txns=_THREADS, max_readers=_READERS,
    )  # fmt: skip


def _replace(path: Path, text: str) -> None:
    new = path.with_name(path.name + ".new")
    with open(new, "w") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    os.replace(new, path)


def _boot_id() -> str:
    return _BOOT_ID.read_text().strip() if _BOOT_ID.exists() else ""


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, Unusable) else type(error).__name__


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

    def names(self, table: bytes) -> list[bytes]:
        with self._txn.cursor(db=self._databases[table]) as cursor:
            return list(cursor.iternext(values=False))


def position_key(topic: str, partition: int) -> bytes:
    """Where the offset up to which a partition was applied stands in POSITIONS."""
    return topic.encode() + b"\x00" + partition.to_bytes(4)


def position(key: bytes) -> tuple[str, int]:
    """And back."""
    return key[:-5].decode(), int.from_bytes(key[-4:])
