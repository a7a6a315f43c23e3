"""Ends asyncio tasks for sure.

Until Python 3.12 `asyncio.wait_for`, with which the Redis client sends, may swallow a cancellation
that arrives as it completes; a task that loops would then run on. Invariant: when `ended` returns
or raises, none of the tasks runs.
"""

import asyncio
from collections.abc import Collection
from typing import Any, Final

_AGAIN_SECONDS: Final = 0.2


async def ended(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancels the tasks until all have ended; what they raise is dropped. Cancelled itself, it does
    so all the same before it gives way: whoever ends it may do it this way too, again and again."""
    running, cancelled = set(tasks), False
    while running:
        for task in running:
            task.cancel()
        try:
            _, running = await asyncio.wait(running, timeout=_AGAIN_SECONDS)
        except asyncio.CancelledError:
            cancelled, running = True, {task for task in running if not task.done()}
    for task in tasks:
        if not task.cancelled():
            task.exception()  # seen
    if cancelled:
        raise asyncio.CancelledError
