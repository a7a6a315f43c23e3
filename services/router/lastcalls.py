"""The fold of `router.callers.v1`: who called A of a binding of mode AXE last, for A's call back.

Pure over any `view.Tables`. Refuses to keep a caller for longer than A may call back. Invariant:
the call with the latest time counts, whatever the order in which routers' records arrive.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from services.router.domain import Entry, Mode
from services.router.view import Copy, Tables, row_key

LAST, ENDS = b"last", b"ends"  # the calls by binding, and what is to be dropped by time
TABLES: Final = (LAST, ENDS)
AXE: Final = int(Mode.AXE)
# Time and end of a call, length of the key id that follows before the box.
_LAST: Final = struct.Struct(">QQB")


@dataclass(frozen=True, slots=True, repr=False)
class LastCall:
    """A record of `router.callers.v1`: who called A of a binding of mode AXE."""

    number: str
    binding: str
    time_ms: int
    expire_ms: int
    caller: Copy


def apply(tables: Tables, call: LastCall) -> bool:
    """Keeps the latest of a binding's until A may not call back any more."""
    key = row_key(call.number, call.binding)
    new = _LAST.pack(call.time_ms, call.expire_ms, len(call.caller.key_id))
    new += call.caller.key_id.encode() + call.caller.box
    before = tables.get(LAST, key)
    if before is not None:
        if new <= before:  # the time comes first
            return False
        tables.delete(ENDS, before[8:16] + key)
    tables.put(LAST, key, new)
    tables.put(ENDS, new[8:16] + key, b"")
    return True


def purge(tables: Tables, now_ms: int, limit: int = 100) -> int:
    """Drops calls that are over, at most `limit`; how many."""
    for dropped in range(limit):
        first = tables.first(ENDS)
        if first is None or int.from_bytes(first[:8]) > now_ms:
            return dropped
        tables.delete(ENDS, first)
        tables.delete(LAST, first[8:])
    return limit


def with_last_caller(
    get: Callable[[bytes, bytes], bytes | None], number: str, entry: Entry
) -> Entry:
    """The entry of A of mode AXE with its last caller for a callee: the box begins with the call's
    time."""
    last = get(LAST, row_key(number, entry.binding))
    if last is None:
        return entry
    end = _LAST.size + last[_LAST.size - 1]
    return entry._replace(key_id=last[_LAST.size : end].decode(), box=last[:8] + last[end:])
