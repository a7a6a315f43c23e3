"""Messages side by side: what is under way is bounded, and ends with the flow."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing

import pytest

from services.runtime.flow import flow


class Source:
    """Messages, and how many of them were taken."""

    def __init__(self, weights: list[int], error: Exception | None = None) -> None:
        self.weights, self.error, self.taken = weights, error, 0

    async def __aiter__(self) -> AsyncIterator[int]:
        for weight in self.weights:
            self.taken += 1
            yield weight
        if self.error:
            raise self.error


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


async def settled() -> None:
    """Lets everything run that can run without us."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_answers_come_as_they_are_ready() -> None:
    gates = {weight: asyncio.Event() for weight in (1, 2, 3)}

    async def handle(weight: int) -> int:
        await gates[weight].wait()
        return weight

    seen = []
    async with aclosing(flow(aiter(Source([1, 2, 3])), int, handle, 100)) as answers:
        for weight in (2, 3, 1):
            gates[weight].set()
            seen.append(await anext(answers))
        assert seen == [2, 3, 1]
        with pytest.raises(StopAsyncIteration):
            await anext(answers)


async def test_nothing_is_read_until_answers_are_taken() -> None:
    source = Source([2] * 50)

    async def handle(weight: int) -> int:
        return weight

    async with aclosing(flow(aiter(source), int, handle, 6)) as answers:
        await anext(answers)
        await settled()
        assert source.taken == 3  # 6 are under way: the answer given out counts until it is taken
        await anext(answers)
        await settled()
        assert source.taken == 4
        assert len([each async for each in answers]) == 48


@pytest.mark.parametrize("at", ["source", "size"])
async def test_what_was_read_is_answered_before_an_error_of_reading(at: str) -> None:
    source = Source([1, 1, 9], KeyError("broken") if at == "source" else None)
    begun = 0

    def size(weight: int) -> int:
        if at == "size" and weight == 9:
            raise KeyError("too large")
        return weight

    async def handle(weight: int) -> int:
        nonlocal begun
        begun += 1
        await settled()
        return weight

    seen = []

    async def run() -> None:
        async for answer in flow(aiter(source), size, handle, 100):
            seen.append(answer)

    with pytest.raises(KeyError):
        await run()
    assert len(seen) == begun == (3 if at == "source" else 2)


async def test_a_defect_ends_the_flow_and_what_is_under_way() -> None:
    cancelled = 0

    async def handle(weight: int) -> int:
        nonlocal cancelled
        if weight == 2:
            raise KeyError("defect")
        try:
            await asyncio.Event().wait()
        finally:
            cancelled += 1
        return weight

    with pytest.raises(KeyError):
        await anext(flow(aiter(Source([1, 1, 2])), int, handle, 100))
    assert cancelled == 2


async def test_closing_ends_what_is_under_way() -> None:
    running = 0

    async def handle(weight: int) -> int:
        nonlocal running
        if weight == 1:
            return weight
        running += 1
        try:
            await asyncio.Event().wait()
        finally:
            running -= 1
        return weight

    answers = flow(aiter(Source([1, 5, 5])), int, handle, 100)
    assert await anext(answers) == 1
    await until(lambda: running == 2)
    await answers.aclose()
    assert running == 0
