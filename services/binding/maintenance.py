"""`python -m services.binding rebuild` and `check`: what a person asks of the cell.

Refuses to know how the store is laid out but for what two stores of the same bindings may differ
in. Invariant: everything else that the store holds is compared.
"""

import asyncio
import secrets
from collections.abc import Mapping
from typing import Any

from services.binding.service import cell_of, parts_of
from services.binding.settings import BindingSettings
from services.runtime import maintenance
from services.runtime.clock import SystemClock


def maintain(command: str, settings: BindingSettings) -> int:
    """Runs the command; its exit status."""
    return asyncio.run(_maintain(command, settings))


async def _maintain(command: str, settings: BindingSettings) -> int:
    return max([await _cell(command, settings, name) for name in settings.cells])


async def _cell(command: str, settings: BindingSettings, name: str) -> int:
    cell, clock, kafka = cell_of(settings, name), SystemClock(), settings.kafka_bootstrap
    if command == "rebuild":
        service = parts_of(settings, cell, clock).rebuild
        status = await maintenance.rebuild(cell, kafka, service)
    else:
        beside = cell_of(settings, f"{name}-check-{secrets.token_hex(4)}")
        scratch = maintenance.scratch_of(cell, beside)
        service, now = parts_of(settings, scratch, clock).rebuild, clock.epoch_ms()

        def comparable(name: str, value: Any) -> Any:
            return comparable_at(now, name, value)

        status = await maintenance.check(cell, scratch, kafka, service, comparable)
        await scratch.close()
    await cell.close()
    return status


def comparable_at(now: int, name: str, value: Any) -> Any:
    """See maintenance.Comparable. What is left out: places in the outbox (a restored record has
    none); cooling that is over, of which the store forgets the mark earlier or later; and a
    number's highest lease epoch, which may be that of a binding that is forgotten."""
    if not isinstance(value, Mapping):
        return value
    kind = name.partition(":")[0]
    if kind in ("binding", "key"):
        return {part: held for part, held in value.items() if part != b"sq"}
    if kind == "number":
        kept = {part: held for part, held in value.items() if part != b"epoch" and held != b"0"}
        if int(kept.get(b"cool", 0)) <= now:
            kept.pop(b"cool", None)
        return kept or None
    if kind == "tags":
        return {
            tag: mark for tag, mark in value.items() if not mark.isdigit() or int(mark) > now
        } or None
    return value
