"""A stream of messages handled side by side, with a bound on what is under way.

Refuses to order the answers. Invariant: a message is read only while there is room, and room is
made only once an answer was taken: a caller who does not read the answers cannot send for ever.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from services.runtime.tasks import ended

M = TypeVar("M")
R = TypeVar("R")


async def flow(
    messages: AsyncIterator[M],
    size: Callable[[M], int],
    handle: Callable[[M], Awaitable[R]],
    room: int,
) -> AsyncGenerator[R]:
    """The answers, as they come about. Nothing is read while `room` or more is under way.

    Raises what `handle` raises at once, what `messages` or `size` raises once all is answered.
    """
    ready: asyncio.Queue[asyncio.Task[Any]] = asyncio.Queue()
    under_way: dict[asyncio.Task[Any], int] = {}
    made = asyncio.Event()  # room

    async def handled(message: M) -> R:
        return await handle(message)

    async def read() -> None:
        nonlocal room
        try:
            async for message in messages:
                weight = size(message)
                task = asyncio.create_task(handled(message))
                under_way[task] = weight
                task.add_done_callback(ready.put_nowait)
                room -= weight
                while room <= 0:
                    made.clear()
                    await made.wait()
        finally:
            if under_way:
                await asyncio.wait(list(under_way))

    reading = asyncio.create_task(read())
    reading.add_done_callback(ready.put_nowait)
    try:
        while (task := await ready.get()) is not reading:
            yield task.result()
            room += under_way.pop(task)
            made.set()
        reading.result()
    finally:
        await ended([reading, *under_way])
