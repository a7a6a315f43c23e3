"""Runs a job of a cell's owner again and again, and waits where its neighbours are away.

Refuses to bear what is not named: everything else ends the owner's term. Invariant: what a round
leaves undone, the next one finds; so a job is a function that may be begun anew at any moment.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from services.runtime.errors import AxbridgeError


async def repeated(
    once: Callable[[], Awaitable[object]],
    *,
    bears: tuple[type[Exception], ...],
    told: Callable[..., Any],
    event: str,
    every_seconds: float,
    retry_seconds: float,
) -> None:
    """Calls `once` until cancelled. One of `bears` is told as `event` with its reason, and the next
    round comes after `retry_seconds`."""
    while True:
        seconds = every_seconds
        try:
            await once()
        except bears as why:
            told(event, reason=why.reason if isinstance(why, AxbridgeError) else type(why).__name__)
            seconds = retry_seconds
        await asyncio.sleep(seconds)
