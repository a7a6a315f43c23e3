"""Readiness follows the cell: not before it is whole, not after it is lost."""

import asyncio

import pytest

from services.runtime.readiness import Readiness
from services.runtime.tasks import ended
from tests.component.binding_world import until
from tests.unit.binding.cells import ready_cell

pytestmark = pytest.mark.both_stores


async def test_readiness_follows_the_cell(valkey_url: str) -> None:
    async with ready_cell(valkey_url) as ready:
        readiness = Readiness(ready.cell)
        assert not readiness.ready
        asking = asyncio.create_task(readiness.run())
        await until(lambda: readiness.ready)
        await ready.wipe()
        await until(lambda: not readiness.ready)
        await ended([asking])
