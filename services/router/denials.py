"""The fold of denials (entries of blacklists) into the view's tables. Pure over any `Tables`.

Refuses to know what time it is: whoever asks brings the clock. Invariant, as in view.py: a record
is applied only if its version is newer than the row's, a tombstone leaves a grave for a day, and
the tables depend on the newest record of each entry and not on the order of entries.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from services.router import lastcalls, view
from services.router.lastcalls import LastCall
from services.router.view import GRAVES, ROWS, Route, RouteKey, Tables, Tombstone
from services.runtime.errors import contradicted

# By target and scope: the entries. By tenant: how many it has. By block and tenant: the pool.
DENIALS, DENYING, POOLS = b"denials", b"denying", b"pools"
TABLES: Final = (DENIALS, DENYING, POOLS)

_GRAVE_MS: Final = 24 * 3600 * 1000
_ACTIVE, _BURIED = 1, 3  # as in view.py, whose table of rows this shares
_ROW: Final = struct.Struct(">BQQB")  # state, version, expiry or grave's end, length of the tenant
# Behind it: the tenant, then the place of the entry in DENIALS.
_ENTRY: Final = struct.Struct(">QB")  # expiry, length of the entry's key, which follows


@dataclass(frozen=True, slots=True, repr=False)
class Denial:
    """A record of `binding.denials.v1`: the caller may not call the callee, or (empty) anybody,
    through numbers of the pool, or (empty) any of the tenant's."""

    key: str
    tenant: str
    version: int
    pool: str
    caller: bytes
    callee: bytes
    expire_ms: int


@dataclass(frozen=True, slots=True)
class DenialEnd:
    """The end of an entry's record."""

    key: str
    version: int
    time_ms: int


def apply(
    tables: Tables, record: Route | Tombstone | RouteKey | Denial | DenialEnd | LastCall
) -> bool:
    """Folds one record of any of the view's topics in; whether it changed anything.

    Raises:
        Malformed: VERSION_CONTRADICTED.
    """
    if isinstance(record, Denial):
        return _deny(tables, record)
    if isinstance(record, DenialEnd):
        return _end(tables, record)
    if isinstance(record, LastCall):
        return lastcalls.apply(tables, record)
    if isinstance(record, Route) and record.pool:
        # A block feeds one pool of a tenant for ever, so the last route says what every one did.
        key, pool = pool_key(record.number, record.tenant), record.pool.encode()
        if tables.get(POOLS, key) != pool:
            tables.put(POOLS, key, pool)
    return view.apply(tables, record)


def purge(tables: Tables, now_ms: int) -> None:
    """Drops some of what is over."""
    view.purge(tables, now_ms)
    lastcalls.purge(tables, now_ms)


def pool_key(number: str, tenant: str) -> bytes:
    """Where the pool of a number's block stands."""
    return (number[:11] + tenant).encode()


def place(caller: bytes, callee: bytes, pool: bytes) -> bytes:
    """Where the entries of a target and scope stand."""
    return (b"p" if callee else b"s") + caller + callee + pool


def _holds(entries: bytes | None, now_ms: int) -> bool:
    """Whether one of a place's entries does: the first one ends last."""
    return entries is not None and int.from_bytes(entries[:8]) > now_ms


def denied(
    get: Callable[[bytes, bytes], bytes | None],
    number: str, tenant: str, caller: bytes, callee: bytes, now_ms: int,
) -> bool:  # fmt: skip
    """Whether any entry of the tenant, or of the number's pool, holds for who calls whom."""
    pool = get(POOLS, pool_key(number, tenant)) or b""
    return any(
        _holds(get(DENIALS, place(caller, whom, scope)), now_ms)
        for whom in (b"", callee)
        for scope in (b"", pool)
    )


def _deny(tables: Tables, denial: Denial) -> bool:
    key, tenant = denial.key.encode(), denial.tenant.encode()
    where = place(denial.caller, denial.callee, denial.pool.encode())
    new = _ROW.pack(_ACTIVE, denial.version, denial.expire_ms, len(tenant)) + tenant + where
    row = tables.get(ROWS, key)
    if row is not None:
        state, version, until, _ = _ROW.unpack_from(row)
        if denial.version <= version:
            if denial.version == version and state == _ACTIVE and row != new:
                raise contradicted()
            return False
        if state == _BURIED:
            tables.delete(GRAVES, _grave_key(until, key))
        else:
            _forget(tables, key, row)
    tables.put(ROWS, key, new)
    entries = _entries(tables.get(DENIALS, where) or b"")
    entries[key] = denial.expire_ms
    _store(tables, where, entries)
    _count(tables, tenant, 1)
    return True


def _end(tables: Tables, end: DenialEnd) -> bool:
    key, until = end.key.encode(), end.time_ms + _GRAVE_MS
    row = tables.get(ROWS, key)
    if row is not None:
        state, version, seen_until, _ = _ROW.unpack_from(row)
        if end.version < version or (end.version == version and state == _BURIED):
            return False
        if state == _BURIED:
            tables.delete(GRAVES, _grave_key(seen_until, key))
        else:
            _forget(tables, key, row)
        until = max(until, seen_until)  # a stale record could deny until then
    tables.put(ROWS, key, _ROW.pack(_BURIED, end.version, until, 0))
    tables.put(GRAVES, _grave_key(until, key), b"")
    return True


def _forget(tables: Tables, key: bytes, row: bytes) -> None:
    at = _ROW.size + row[_ROW.size - 1]
    where, entries = row[at:], _entries(tables.get(DENIALS, row[at:]) or b"")
    entries.pop(key, None)
    _store(tables, where, entries)
    _count(tables, row[_ROW.size : at], -1)


def _entries(packed: bytes) -> dict[bytes, int]:
    found, at = {}, 0
    while at < len(packed):
        expire, length = _ENTRY.unpack_from(packed, at)
        at += _ENTRY.size + length
        found[packed[at - length : at]] = expire
    return found


def _store(tables: Tables, where: bytes, entries: dict[bytes, int]) -> None:
    if not entries:
        tables.delete(DENIALS, where)
        return
    last_first = sorted(entries.items(), key=lambda each: (-each[1], each[0]))
    packed = (_ENTRY.pack(expire, len(key)) + key for key, expire in last_first)
    tables.put(DENIALS, where, b"".join(packed))


def _count(tables: Tables, tenant: bytes, by: int) -> None:
    count = int.from_bytes(tables.get(DENYING, tenant) or b"") + by
    if count > 0:
        tables.put(DENYING, tenant, count.to_bytes(4))
    else:
        tables.delete(DENYING, tenant)


def _grave_key(until_ms: int, row_key: bytes) -> bytes:
    return until_ms.to_bytes(8) + row_key
