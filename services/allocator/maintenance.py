"""`python -m services.allocator rebuild` and `check`: what a person asks of the cell.

Refuses to compare what Kafka does not have: open leases, and what hangs on them. Invariant: pools,
blocks with their cursors, locks and the bindings of every number are compared.
"""

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from services.allocator.service import cell_of, parts_of
from services.allocator.settings import AllocatorSettings
from services.runtime.clock import SystemClock
from services.runtime.maintenance import maintained

_COUNTED: Final = (b"leased", b"bound", b"locked")  # with leases, or how they ended
_LEASED: Final = (b"v", b"lv", b"leases", b"until", b"h", b"ls")  # of a number; h, ls: its history
_OWN: Final = (b"gen", b"sq", b"epoch")  # of this store: nothing in Kafka says the same


def maintain(command: str, settings: AllocatorSettings) -> int:
    """Runs the command; its exit status."""
    return asyncio.run(_maintain(command, settings))


async def _maintain(command: str, settings: AllocatorSettings) -> int:
    clock = SystemClock()
    return await maintained(
        command, settings.cell, partial(cell_of, settings), settings.kafka_bootstrap,
        lambda cell: parts_of(settings, cell, clock).rebuild, comparable,
    )  # fmt: skip


def comparable(name: str, value: Any) -> Any:
    """See maintenance.Comparable."""
    kind = name.partition(":")[0]
    if kind in ("counter", "use"):  # use: what a forecast rests on; it begins anew
        return None
    if not isinstance(value, Mapping):
        return value
    if kind == "pool":
        return {
            part: held
            for part, held in value.items()
            if part not in (*_COUNTED, *_OWN) and held != b"0"
        }
    if kind == "block":
        return {part: held for part, held in value.items() if part not in (b"version", *_OWN)}
    if kind == "number":
        kept = {
            part: held
            for part, held in value.items()
            if part not in _LEASED and not part.startswith(b"e/") and held != b"0"
        }
        return kept or None
    return value if kind == "blocks" else None  # others are made of numbers and leases
