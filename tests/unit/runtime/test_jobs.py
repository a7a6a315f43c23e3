"""A job goes on after what it bears, and ends with anything else."""

import asyncio
from typing import Any

import pytest

from services.runtime.errors import Unavailable
from services.runtime.jobs import repeated


class Job:
    """Raises what it is given, one a round."""

    def __init__(self, *rounds: Exception | None) -> None:
        self.left = list(rounds)
        self.told: list[tuple[str, str]] = []

    async def once(self) -> None:
        error = self.left.pop(0)
        if error is not None:
            raise error

    async def run(self, every_seconds: float = 0.0, retry_seconds: float = 0.0) -> None:
        await repeated(
            self.once,
            bears=(Unavailable, KeyError),
            told=self.tell,
            event="job waits",
            every_seconds=every_seconds,
            retry_seconds=retry_seconds,
        )

    def tell(self, event: str, **fields: Any) -> None:
        self.told.append((event, fields["reason"]))


async def test_what_it_bears_is_told_and_anything_else_ends_it() -> None:
    job = Job(None, Unavailable("STORE_HEALING"), KeyError("x"), None, ValueError("end"))
    with pytest.raises(ValueError, match="end"):
        await job.run()
    assert job.told == [("job waits", "STORE_HEALING"), ("job waits", "KeyError")]


@pytest.mark.parametrize("first", [None, Unavailable("STORE_HEALING")])
async def test_how_long_it_rests_depends_on_how_the_round_ended(first: Exception | None) -> None:
    job = Job(first, None)
    rests = {"every_seconds": 3600.0, "retry_seconds": 0.0}
    if first is None:
        rests = {"every_seconds": 0.0, "retry_seconds": 3600.0}
    running = asyncio.create_task(job.run(**rests))
    async with asyncio.timeout(20):
        while len(job.left) == 2 or (job.left and not running.done()):
            await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert not job.left
