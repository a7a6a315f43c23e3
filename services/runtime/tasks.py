"""Ends asyncio tasks for sure.

Until Python 3.12 `asyncio.wait_for`, with which the Redis client sends, may swallow a cancellation
that arrives as it completes; a task that loops would then run on. Invariant: when `ended` returns,
none of the tasks runs.
"""

import asyncio
from collections.abc import Collection
from typing import Any, Final

_AGAIN_SECONDS: Final = 0.2


async def ended(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancels the tasks until all have ended; what they raise is dropped."""
    running = set(tasks)
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=_AGAIN_SECONDS)
    await asyncio.gather(*tasks, return_exceptions=True)
