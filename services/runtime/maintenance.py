"""What a person asks of a cell from a command line: `rebuild` it, or `check` it against Kafka.

A check restores what Kafka has into a scratch cell, by the same code as a rebuild, and compares the
two key by key: whatever a service comes to keep is compared, or named by it as not comparable.
Refuses to change the cell that it checks. Invariant: nothing of the scratch cell reaches Kafka, and
nothing of it stays.
"""

import gc
import json
import secrets
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final

from services.runtime.cell import Cell
from services.runtime.owner import Owner
from services.runtime.rebuild import Rebuild, heal

# What a key holds, in a form that two cells have in common; None: not to be compared. The name is
# without the cell's prefix; a hash is a dict, a sorted set a dict of scores, a set a set.
Comparable = Callable[[str, Any], Any]

COMMANDS: Final = ("rebuild", "check")
_LEASE_MS: Final = 24 * 3600 * 1000  # nobody else knows of a scratch cell
_PAGE: Final = 1000
_LARGE: Final = 10_000  # members of a sorted set that is compared page by page
_SHOWN: Final = 100
_OWN: Final = ("meta", "outbox", "positions")


def command() -> str:
    """The command on this process's command line; empty: serve. Exits with 2 for another one."""
    if len(sys.argv) == 1:
        return ""
    if len(sys.argv) > 2 or sys.argv[1] not in COMMANDS:
        print(f"no argument, or one of: {', '.join(COMMANDS)}", file=sys.stderr)
        raise SystemExit(2)
    return sys.argv[1]


async def rebuild(cell: Cell, bootstrap: str, service: Rebuild) -> int:
    """Takes the cell over, restores it from Kafka, gives it up, and says how much that was."""
    # What is read leaves no cycles behind: looking for them took half the time.
    gc.set_threshold(100_000, 50, 1000)
    begun = time.perf_counter()
    counts = await Owner(cell, bootstrap, service).rebuild()
    seconds = time.perf_counter() - begun
    total = sum(counts.values())
    print(json.dumps({
        "cell": cell.name, "records": dict(counts), "seconds": round(seconds, 3),
        "records_per_second": round(total / seconds),
    }))  # fmt: skip
    return 0


async def maintained(
    asked: str,
    name: str,
    cell_of: Callable[[str], Cell],
    bootstrap: str,
    service_of: Callable[[Cell], Rebuild],
    comparable: Comparable,
) -> int:
    """Runs a command on the cell of that name; its exit status."""
    cell = cell_of(name)
    try:
        if asked == "rebuild":
            return await rebuild(cell, bootstrap, service_of(cell))
        scratch = cell_of(f"{name}-check-{secrets.token_hex(4)}")
        scratch.source = cell.source  # it is restored from the records of the other
        try:
            return await check(cell, scratch, bootstrap, service_of(scratch), comparable)
        finally:
            await scratch.close()
    finally:
        await cell.close()


async def check(
    cell: Cell, scratch: Cell, bootstrap: str, service: Rebuild, comparable: Comparable
) -> int:
    """Says whether the cell is what Kafka has, and what differs; 0 if nothing, else 1. What is
    written meanwhile differs. `service` restores `scratch`."""
    try:
        await scratch.load()
        owner = uuid.uuid4().hex
        await heal(scratch, owner, _LEASE_MS, bootstrap, service, _unannounced, force=True)
        keys, differences = await compare(cell, scratch, comparable)
    finally:
        await drop(scratch)
    print(json.dumps({
        "cell": cell.name, "same": not differences, "keys": keys, "differences": len(differences),
        "first": dict(sorted(differences.items())[:_SHOWN]),
    }))  # fmt: skip
    return 1 if differences else 0


async def compare(cell: Cell, other: Cell, comparable: Comparable) -> tuple[int, Mapping[str, str]]:
    """How many keys were compared, and which differ: their names, and how."""
    differences: dict[str, str] = {}
    compared = 0
    async for names in _pages(cell):
        names, large = await _sized(cell, names)
        for name in large:
            if comparable(name, {}) is not None:
                compared += 1
                if found := await _compared_large(cell, other, name):
                    differences[name] = found
        ours, theirs = await _contents(cell, names), await _contents(other, names)
        for name in names:
            one, two = (
                None if each is None else comparable(name, each)
                for each in (ours[name], theirs[name])
            )
            compared += one is not None
            if one != two:
                differences[name] = "not in Kafka" if two is None else _difference(one, two)
    async for names in _pages(other):
        missing = [name for name in names if not await cell.redis.exists(_octets(cell, name))]
        theirs = await _contents(other, missing)
        for name in missing:
            if comparable(name, theirs[name]) is not None:
                differences[name] = "not in the store"
    return compared, differences


async def _sized(cell: Cell, names: list[str]) -> tuple[list[str], list[str]]:
    """Those to be read whole, and sorted sets that are too large for it."""
    async with cell.redis.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.type(_octets(cell, name))
        kinds = await pipe.execute()
    sets = [name for name, kind in zip(names, kinds, strict=True) if kind == b"zset"]
    async with cell.redis.pipeline(transaction=False) as pipe:
        for name in sets:
            pipe.zcard(_octets(cell, name))
        sizes = await pipe.execute()
    large = [name for name, size in zip(sets, sizes, strict=True) if size > _LARGE]
    return [name for name in names if name not in large], large


async def _compared_large(cell: Cell, other: Cell, name: str) -> str:
    """How two sorted sets differ, page by page; empty if they do not."""
    keys = [_octets(each, name) for each in (cell, other)]
    wrong, cursor = 0, 0
    while True:
        scanned: Any = await cell.redis.zscan(keys[0], cursor, count=_PAGE)
        cursor, page = scanned
        scores = await other.redis.zmscore(keys[1], [member for member, _ in page]) if page else []
        wrong += sum(s != score for s, (_, score) in zip(scores, page, strict=True))
        if not cursor:
            break
    sizes = [await each.redis.zcard(k) for each, k in zip((cell, other), keys, strict=True)]
    return f"{wrong} parts, {sizes[0]} against {sizes[1]}" if wrong or sizes[0] != sizes[1] else ""


async def drop(cell: Cell) -> None:
    """Deletes every key of a cell."""
    async for names in _pages(cell, own=True):
        await cell.redis.unlink(*(_octets(cell, name) for name in names))


async def _unannounced(_epoch: int) -> None:
    """A scratch cell's term is nobody's business."""


async def _pages(cell: Cell, *, own: bool = False) -> AsyncIterator[list[str]]:
    prefix = cell.key("")
    cursor: Any = 0
    while True:
        scanned: Any = await cell.redis.scan(
            cursor, match=f"{prefix.replace('{', '[{]')}*", count=_PAGE
        )
        cursor, found = scanned
        # Blind tags are in some names, which are octets then.
        names = [key.decode("latin-1").removeprefix(prefix) for key in found]
        if names := [name for name in names if own or name not in _OWN]:
            yield names
        if not cursor:
            return


def _octets(cell: Cell, name: str) -> bytes:
    return cell.key(name).encode("latin-1")


async def _contents(cell: Cell, names: list[str]) -> dict[str, Any]:
    keys = [_octets(cell, name) for name in names]
    async with cell.redis.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.type(key)
        kinds = await pipe.execute()
        for key, kind in zip(keys, kinds, strict=True):
            _READ.get(kind, _present)(pipe, key)
        values = await pipe.execute()
    return {
        name: None if kind == b"none" else _SHAPE.get(kind, lambda value: value)(value)
        for name, kind, value in zip(names, kinds, values, strict=True)
    }


def _present(pipe: Any, key: bytes) -> Any:
    return pipe.exists(key)


_READ: Final[Mapping[bytes, Callable[[Any, bytes], Any]]] = {
    b"string": lambda pipe, key: pipe.get(key),
    b"hash": lambda pipe, key: pipe.hgetall(key),
    b"set": lambda pipe, key: pipe.smembers(key),
    b"zset": lambda pipe, key: pipe.zrange(key, 0, -1, withscores=True),
}
_SHAPE: Final[Mapping[bytes, Callable[[Any], Any]]] = {b"zset": dict}


def _difference(one: Any, two: Any) -> str:
    """Which parts differ; never what they hold."""
    if not (isinstance(one, dict) and isinstance(two, dict)):
        return "another value"
    wrong = sorted(
        part.decode("ascii", "backslashreplace") if isinstance(part, bytes) else str(part)
        for part in one.keys() | two.keys()
        if one.get(part) != two.get(part)
    )
    return f"{len(wrong)} of {len(one.keys() | two.keys())} parts, first {wrong[0]}"
