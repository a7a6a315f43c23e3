"""The fold of route records into the tables a call is looked up in. Pure over any `Tables`.

Refuses to decide who wins by arrival: a slot lists every entry of a caller on a number, the best
first, so the tables depend on the newest record of each binding and not on the order of bindings.

Invariant: a record is applied only if its version is newer than the row's. A tombstone leaves a
grave with the version until the binding could no longer connect anyway, so a stale record that
follows it (a relay that was frozen) revives nothing. Replaying any prefix changes nothing.
"""

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from services.router.domain import Entry, Mode, Side
from services.router.entries import entries, pack_entry, unpack_entry
from services.runtime.errors import contradicted
from services.runtime.options import NONE, parse

FORMAT: Final = 5  # of keys and values below; another format is rebuilt from Kafka

ROWS, SLOTS, BLOCKS, KEYS, GRAVES = b"rows", b"slots", b"blocks", b"keys", b"graves"
TABLES: Final = (ROWS, SLOTS, BLOCKS, KEYS, GRAVES)

_GRAVE_MS: Final = 24 * 3600 * 1000
_BURIED: Final = 3  # a row's state: 1 active, 2 released
_ROW: Final = struct.Struct(">BQQB")  # state, version, latest expiry seen, length of the tenant
# Behind it: the tenant, then whose slots it is in, each with its length.
_BLOCK: Final = struct.Struct(">IB")  # rows, length of the tenant that follows
_TAG: Final = 16
ANYONE: Final = b""  # in place of a tag: the slot of a caller who has none on the number


class Tables(Protocol):
    """Ordered byte tables inside one transaction."""

    def get(self, table: bytes, key: bytes) -> bytes | None: ...
    def put(self, table: bytes, key: bytes, value: bytes) -> None: ...
    def delete(self, table: bytes, key: bytes) -> None: ...
    def first(self, table: bytes) -> bytes | None:
        """The smallest key."""


class Copy(NamedTuple):
    """A route copy: the id of its key, and the box."""

    key_id: str
    box: bytes


@dataclass(frozen=True, slots=True, repr=False)
class Route:
    """A record of `binding.routes.v1`, checked for form."""

    tenant: str
    binding: str
    number: str
    version: int
    active: bool
    mode: int
    direction: int
    max_call_minutes: int
    expire_ms: int
    tag_a: bytes
    tag_b: bytes
    callee_a: Copy
    callee_b: Copy
    lease_epoch: int
    industry_id: str
    options: str = ""
    pool: str = ""


@dataclass(frozen=True, slots=True)
class Tombstone:
    """The end of a binding's record."""

    number: str
    binding: str
    version: int
    time_ms: int


@dataclass(frozen=True, slots=True, repr=False)
class RouteKey:
    """A record of `binding.keys.v1`; `wrapped` None ends the key."""

    key_id: str
    wrapped: Copy | None


def apply(tables: Tables, record: Route | Tombstone | RouteKey) -> bool:
    """Folds one record in; whether it changed anything. Raises Malformed: VERSION_CONTRADICTED."""
    if isinstance(record, Route):
        return _route(tables, record)
    if isinstance(record, Tombstone):
        return _tombstone(tables, record)
    return _key(tables, record)


def _route(tables: Tables, route: Route) -> bool:
    key = row_key(route.number, route.binding)
    row = tables.get(ROWS, key)
    until = route.expire_ms
    if row is not None:
        state, version, seen_until, _ = _ROW.unpack_from(row)
        if route.version <= version:
            if route.version == version and state != _BURIED and not _stands(tables, route):
                raise contradicted()
            return False
        until = max(until, seen_until)
        if state == _BURIED:
            tables.delete(GRAVES, _grave_key(seen_until, key))
        else:
            _forget(tables, route.number, route.binding, row)
    tenant = route.tenant.encode()
    slots = _slots(route)
    whose = [who for who, _, _ in slots]
    head = _ROW.pack(1 if route.active else 2, route.version, until, len(tenant))
    packed = b"".join(len(who).to_bytes(1) + who for who in whose)
    tables.put(ROWS, key, head + tenant + packed)
    if route.active:
        _ask(tables, route.number, whose, 1)
    _count(tables, route.number[:11].encode(), tenant, 1)
    for who, side, callee in slots:
        _enter(tables, slot_key(route.number, who), pack_entry(_entry(route, side, callee)))
    return True


def _entry(route: Route, side: Side, callee: Copy) -> Entry:
    return Entry(
        route.tenant, route.binding, route.version, route.active, side, route.mode,
        route.direction, route.max_call_minutes, route.expire_ms, route.lease_epoch,
        route.industry_id, callee.key_id, callee.box, route.options,
    )  # fmt: skip


def _stands(tables: Tables, route: Route) -> bool:
    return all(
        _entry(route, side, callee) in entries(tables.get(SLOTS, slot_key(route.number, w)) or b"")
        for w, side, callee in _slots(route)
    )


def _slots(route: Route) -> list[tuple[bytes, Side, Copy]]:
    """Who may dial the number because of the route: in whose slot, as which side, and whom they
    reach. Of an unknown mode the parties too, so that they hear that it is not supported."""
    slots = [(route.tag_a, Side.A, route.callee_b)]
    try:
        options = parse(route.options)
    except ValueError:
        options = NONE
    if route.mode == Mode.AX or (route.mode == Mode.AXE and options.extension):
        return [*slots, (options.extension.encode() or ANYONE, Side.UNKNOWN, route.callee_a)]
    if route.mode == Mode.AXYB:  # each dials a number of its own
        by_b = options.numbers.endswith(route.number)
        return [(route.tag_b, Side.B, route.callee_a)] if by_b else slots
    if route.tag_b:
        slots.append((route.tag_b, Side.B, route.callee_a))
    if options.stranger and route.active:
        slots.append((ANYONE, Side.UNKNOWN, Copy("", b"")))
    return slots


def _ask(tables: Tables, number: str, whose: Iterable[bytes], by: int) -> None:
    """Counts the live extensions of the number, so that a stranger is asked for one. The count
    stands beside the blocks', under all 15 digits."""
    if not any(0 < len(who) < _TAG for who in whose):
        return
    key = number.encode()
    count = int.from_bytes(tables.get(BLOCKS, key) or b"") + by
    if count:
        tables.put(BLOCKS, key, count.to_bytes(4))
    else:
        tables.delete(BLOCKS, key)


def _tombstone(tables: Tables, tombstone: Tombstone) -> bool:
    key = row_key(tombstone.number, tombstone.binding)
    row = tables.get(ROWS, key)
    version, until = tombstone.version, tombstone.time_ms + _GRAVE_MS
    if row is not None:
        state, row_version, seen_until, _ = _ROW.unpack_from(row)
        if version < row_version or (version == row_version and state == _BURIED):
            return False
        until = max(until, seen_until)
        if state == _BURIED:
            tables.delete(GRAVES, _grave_key(seen_until, key))
        else:
            _forget(tables, tombstone.number, tombstone.binding, row)
    tables.put(ROWS, key, _ROW.pack(_BURIED, version, until, 0))
    tables.put(GRAVES, _grave_key(until, key), b"")
    return True


def _key(tables: Tables, key: RouteKey) -> bool:
    name = key.key_id.encode()
    if key.wrapped is None:
        tables.delete(KEYS, name)
    else:
        tables.put(KEYS, name, key.wrapped.key_id.encode() + b"\n" + key.wrapped.box)
    return True


def purge(tables: Tables, now_ms: int, limit: int = 100) -> int:
    """Drops graves that are over, at most `limit`; how many."""
    for dropped in range(limit):
        first = tables.first(GRAVES)
        if first is None or int.from_bytes(first[:8]) > now_ms:
            return dropped
        tables.delete(GRAVES, first)
        tables.delete(ROWS, first[8:])
    return limit


def _forget(tables: Tables, number: str, binding: str, row: bytes) -> None:
    """Takes a binding out of the slots that its row names and out of the counts."""
    at = _ROW.size + row[_ROW.size - 1]
    _count(tables, number[:11].encode(), row[_ROW.size : at], -1)
    whose = []
    while at < len(row):
        end = at + 1 + row[at]
        whose.append(row[at + 1 : end])
        at = end
    if row[0] == 1:
        _ask(tables, number, whose, -1)
    for who in whose:
        key = slot_key(number, who)
        others = [e for e in entries(tables.get(SLOTS, key) or b"") if e.binding != binding]
        _store_slot(tables, key, others)


def _enter(tables: Tables, key: bytes, packed: bytes) -> None:
    slot = tables.get(SLOTS, key)
    if slot is None:
        tables.put(SLOTS, key, packed)
    else:
        _store_slot(tables, key, [*entries(slot), unpack_entry(packed)])


def _store_slot(tables: Tables, key: bytes, found: list[Entry]) -> None:
    if not found:
        tables.delete(SLOTS, key)
        return
    # Active before released, then the newer lease of the number, then the later binding: their ids
    # sort by time. A caller that was bound again on the same number meets its newest binding.
    found.sort(key=lambda e: (e.active, e.lease_epoch, e.binding), reverse=True)
    tables.put(SLOTS, key, b"".join(map(pack_entry, found)))


def _count(tables: Tables, block: bytes, tenant: bytes, by: int) -> None:
    """Keeps how many rows each tenant has in the block. The last tenant stays known with none."""
    old = tables.get(BLOCKS, block) or b""
    if old[_BLOCK.size :] == tenant and old[_BLOCK.size - 1] == len(tenant):  # alone: nearly always
        rows = _BLOCK.unpack_from(old)[0] + by
        return tables.put(BLOCKS, block, _BLOCK.pack(rows, len(tenant)) + tenant)
    counts = dict(tenants(old))
    counts[tenant.decode()] = counts.get(tenant.decode(), 0) + by
    if any(counts.values()):
        counts = {name: rows for name, rows in counts.items() if rows}
    packed = (
        _BLOCK.pack(rows, len(name.encode())) + name.encode()
        for name, rows in sorted(counts.items())
    )
    tables.put(BLOCKS, block, b"".join(packed))


def tenants(block: bytes) -> Iterator[tuple[str, int]]:
    """The tenants of a block, each with its number of rows."""
    at = 0
    while at < len(block):
        rows, length = _BLOCK.unpack_from(block, at)
        at += _BLOCK.size + length
        yield block[at - length : at].decode(), rows


def beside(
    get: Callable[[bytes, bytes], bytes | None], number: str, extension: str, *, stranger: bool
) -> tuple[bytes | None, bool]:
    """The slot that counts beside a party's own: before it, that of whom an extension leads to; for
    a stranger, what is for anyone. Without one: whether the number asks for an extension."""
    for who in [*([extension.encode()] if extension else []), *([ANYONE] if stranger else [])]:
        slot = get(SLOTS, slot_key(number, who))
        if slot is not None:
            return slot, False
    return None, stranger and get(BLOCKS, number.encode()) is not None


def slot_key(number: str, who: bytes) -> bytes:
    """Where the entries of a caller's tag, an extension's digits or ANYONE on a number stand."""
    return number.encode() + who


def row_key(number: str, binding: str) -> bytes:
    return number.encode() + binding.encode()


def _grave_key(until_ms: int, row_key: bytes) -> bytes:
    return until_ms.to_bytes(8) + row_key
