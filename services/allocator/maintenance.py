"""`python -m services.allocator rebuild` and `check`: what a person asks of the cell.

Refuses to compare what Kafka does not have: open leases, and what hangs on them. Invariant: pools,
blocks with their cursors, locks and the bindings of every number are compared.
"""

import asyncio
import secrets
from collections.abc import Mapping
from typing import Any, Final

from services.allocator.service import cell_of, parts_of
from services.allocator.settings import AllocatorSettings
from services.runtime import maintenance
from services.runtime.clock import SystemClock

_COUNTED: Final = (b"leased", b"bound", b"locked")  # with leases, or how they ended
_LEASED: Final = (b"v", b"lv", b"leases", b"until")  # of a number


def maintain(command: str, settings: AllocatorSettings) -> int:
    """Runs the command; its exit status."""
    return asyncio.run(_maintain(command, settings))


async def _maintain(command: str, settings: AllocatorSettings) -> int:
    cell, clock, kafka = cell_of(settings), SystemClock(), settings.kafka_bootstrap
    if command == "rebuild":
        service = parts_of(settings, cell, clock).rebuild
        status = await maintenance.rebuild(cell, kafka, service)
    else:
        name = f"{cell.name}-check-{secrets.token_hex(4)}"
        scratch = maintenance.scratch_of(cell, cell_of(settings, name))
        service = parts_of(settings, scratch, clock).rebuild
        status = await maintenance.check(cell, scratch, kafka, service, comparable)
        await scratch.close()
    await cell.close()
    return status


def comparable(name: str, value: Any) -> Any:
    """See maintenance.Comparable."""
    kind = name.partition(":")[0]
    if not isinstance(value, Mapping):
        return value if kind not in ("counter",) else None
    if kind == "pool":
        return {part: held for part, held in value.items() if part not in _COUNTED and held != b"0"}
    if kind == "block":
        return {part: held for part, held in value.items() if part not in (b"version", b"epoch")}
    if kind == "number":
        kept = {
            part: held
            for part, held in value.items()
            if part not in _LEASED and not part.startswith(b"e/") and held != b"0"
        }
        return kept or None
    return value if kind == "blocks" else None  # others are made of numbers and leases
