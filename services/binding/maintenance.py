"""`python -m services.binding rebuild`, `check`, `purge`: what a person asks of the cell.

Refuses to know how the store is laid out but for what two stores of the same bindings may differ
in. Invariant: everything else that the store holds is compared.
"""

import asyncio
import json
from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Any

from services.binding import purger
from services.binding.service import cell_of, parts_of
from services.binding.settings import BindingSettings
from services.runtime.clock import ManualClock, SystemClock
from services.runtime.maintenance import maintained


def maintain(command: str, settings: BindingSettings) -> int:
    """Runs the command; its exit status."""
    return asyncio.run(_maintain(command, settings))


async def _maintain(command: str, settings: BindingSettings) -> int:
    clock, worst = SystemClock(), 0
    compared = partial(comparable_at, clock.epoch_ms())
    for name in settings.cells:
        status = await maintained(
            command, name, partial(cell_of, settings), settings.kafka_bootstrap,
            lambda cell: parts_of(settings, cell, clock).rebuild, compared,
        )  # fmt: skip
        worst = max(worst, status)
    return worst


def purge(given: list[str], settings: BindingSettings) -> int:
    """`purge`: ends the buckets that are over, as the cell's owner does every hour, and says which.
    The owner publishes it: with no service running nothing is acknowledged, and it is repeated."""
    asked = purger.arguments(given)
    return asyncio.run(_purge(settings, asked.since, asked.now))


async def _purge(settings: BindingSettings, since: str, now: datetime | None) -> int:
    clock = ManualClock(now) if now else SystemClock()
    for name in settings.cells:
        cell = cell_of(settings, name)
        await cell.open()
        try:
            done = await parts_of(settings, cell, clock).purger.purge(since)
        finally:
            await cell.close()
        for each in done:
            print(json.dumps({
                "cell": name, "bucket": each.bucket, "bindings": each.dropped_bindings,
                "erasures": each.dropped_erasures,
            }))  # fmt: skip
    return 0


def comparable_at(now: int, name: str, value: Any) -> Any:
    """See maintenance.Comparable. What is left out: places in the outbox (a restored record has
    none); cooling that is over, of which the store forgets the mark earlier or later; and a
    number's highest lease epoch, which may be that of a binding that is forgotten."""
    if not isinstance(value, Mapping):
        return value
    kind = name.partition(":")[0]
    if kind in ("binding", "key", "ledger", "register"):
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
