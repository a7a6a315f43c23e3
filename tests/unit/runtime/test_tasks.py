import asyncio

import pytest

from services.runtime.tasks import ended


async def stubborn(swallows: int) -> None:
    """Swallows cancellations as `asyncio.wait_for` may before Python 3.12."""
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if swallows == 0:
                raise
            swallows -= 1


@pytest.mark.parametrize("swallows", [0, 1, 3])
async def test_a_task_ends_however_many_cancellations_it_swallows(swallows: int) -> None:
    task = asyncio.create_task(stubborn(swallows))
    await asyncio.sleep(0)
    await ended([task])
    assert task.cancelled()


async def test_what_a_task_raises_is_dropped() -> None:
    async def fail() -> None:
        raise ValueError

    task = asyncio.create_task(fail())
    await asyncio.sleep(0)
    await ended([task])
    await ended([])
    assert isinstance(task.exception(), ValueError)


async def test_whoever_is_cancelled_while_ending_tasks_ends_them_first() -> None:
    """As in a drain: the owner's task is ended while it ends those of its term."""
    inner = asyncio.create_task(stubborn(3))
    outer = asyncio.create_task(ending(inner))
    await asyncio.sleep(0.01)
    await ended([outer])
    assert outer.cancelled()
    assert inner.cancelled()


async def ending(task: asyncio.Task[None]) -> None:
    try:
        await asyncio.sleep(60)
    finally:
        await ended([task])
