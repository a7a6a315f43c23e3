"""What a step of a process's clock does to a cell: nothing but that others take over."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import pytest

from services.runtime.clock import SystemClock
from services.runtime.errors import Unavailable
from services.runtime.owner import Owner
from services.runtime.tasks import ended
from tests.contract.toy import Toy
from tests.factories import unique

DAY_MS = 86_400_000


class Stepped(SystemClock):
    """The machine's clock, set wrong by so many milliseconds."""

    by_ms = 0

    def epoch_ms(self) -> int:
        return super().epoch_ms() + self.by_ms


@dataclass
class Replica:
    """A process of the toy service."""

    toy: Toy
    clock: Stepped
    owner: Owner


@pytest.fixture
async def replicas(
    valkey_url: str, kafka_bootstrap: str, new_topic: Callable[..., str]
) -> AsyncIterator[list[Replica]]:
    """Two on one cell; one of them owns it and both can write."""
    cell, topic = unique("cell"), new_topic("toy", config={"cleanup.policy": "compact"})
    made = []
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(2):
            clock = Stepped()
            toy = Toy(valkey_url, cell, topic, clock)
            await toy.cell.open()
            stack.push_async_callback(toy.cell.close)
            made.append(Replica(toy, clock, toy.owner(kafka_bootstrap)))
        tasks = [asyncio.create_task(each.owner.run()) for each in made]
        stack.push_async_callback(ended, tasks)
        await until(lambda: any(each.owner.owning for each in made))
        yield made


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("by_ms", [60_000, -60_000, DAY_MS])
async def test_a_clock_apart_does_nothing_until_it_is_right(
    replicas: list[Replica], by_ms: int
) -> None:
    subject = replicas[0]
    await subject.toy.put("a", "one", 1)
    subject.clock.by_ms = by_ms
    await subject.toy.cell.refresh()
    with pytest.raises(Unavailable, match="CLOCK_SKEWED"):
        await subject.toy.put("a", "two", 2)
    with pytest.raises(Unavailable, match="CLOCK_SKEWED"):
        await subject.toy.get("a")
    assert await replicas[1].toy.get("a") == ("one", 1)
    subject.clock.by_ms = 1_500  # less than what is taken for a disagreement
    await subject.toy.cell.refresh()
    assert await subject.toy.get("a") == ("one", 1)


async def test_an_owner_gives_way_to_a_clock_that_is_right(replicas: list[Replica]) -> None:
    wrong, right = sorted(replicas, key=lambda each: not each.owner.owning)
    wrong.clock.by_ms = DAY_MS
    await until(lambda: right.owner.owning and not wrong.owner.owning)
    await right.toy.cell.published(await right.toy.put("a", "one", 1), timeout=10)


async def test_where_no_clock_is_right_one_owns_the_cell_all_the_same(
    replicas: list[Replica],
) -> None:
    first = next(each for each in replicas if each.owner.owning)
    for each in replicas:
        each.clock.by_ms = -60_000
    await until(lambda: not first.owner.owning)
    await until(lambda: any(each.owner.owning for each in replicas))
    for each in replicas:
        each.clock.by_ms = 0
    await until(lambda: not any(each.toy.cell.skewed for each in replicas))
    await first.toy.cell.published(await first.toy.put("a", "one", 1), timeout=10)
