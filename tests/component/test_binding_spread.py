"""A tenant with two cells: one service, every binding found, each in the cell of its party."""

import asyncio
import uuid
from pathlib import Path

import pytest
from axbridge.binding.v1 import binding_pb2
from axbridge.type.v1 import phone_number_pb2

from deploy.local.compaction import contents
from services.binding.service import cell_of
from services.runtime.cell import Cell
from services.runtime.maintenance import drop
from tests.component.binding_world import B, World, refusal, world
from tests.factories import unique

pytestmark = pytest.mark.both_stores
_LETTERS = str.maketrans("0123456789", "ghijklmnop")
RELEASED = binding_pb2.BINDING_STATE_RELEASED


def second_cell(w: World) -> str:
    """The world's settings with another cell for its tenant; its name."""
    name = unique("d")[:24].translate(_LETTERS)
    cells = {"didi": (w.settings.cell, name)}
    w.settings = w.settings.model_copy(update={"tenant_cells": cells})
    return name


async def held(cell: Cell) -> int:
    found = [key async for key in cell.redis.scan_iter(match=f"*{cell.name}*:binding:*")]
    return len(found)


@pytest.mark.timeout(180)
async def test_bindings_spread_over_cells_and_are_found_in_all(
    kafka_bootstrap: str, valkey_url: str, tmp_path: Path
) -> None:
    async with world(kafka_bootstrap, valkey_url, tmp_path) as w:
        before = await w.create()
        name = second_cell(w)
        async with w.running():  # another process, with two cells
            await spread(w, before, name)
    keys = {
        (record.key or b"").decode()
        for record in contents(kafka_bootstrap, "binding.keys.v1")
        if ("ce_source", f"/axbridge/binding/{name}".encode()) in record.headers
    }
    assert keys
    assert all(f"@{name}/" in key for key in keys)


async def spread(w: World, before: binding_pb2.Binding, name: str) -> None:
    assert await w.get(before.name) == before
    cells = [cell_of(w.settings), cell_of(w.settings, name)]
    async with asyncio.timeout(30):
        while not all([await cell.refresh() for cell in cells]):
            await asyncio.sleep(0.05)
    requests = [
        w.request(
            order_id=f"order-{n % 3}",
            number_a=phone_number_pb2.PhoneNumber(e164=f"+86138{n:08d}"),
        )
        for n in range(60)
    ]
    made = await asyncio.gather(*(w.stub.CreateBinding(r, timeout=20) for r in requests))
    counts = [await held(cell) for cell in cells]
    assert sum(counts) == 61
    assert min(counts) > 10
    assert [await w.get(each.name) for each in made] == made
    assert await w.stub.CreateBinding(requests[7], timeout=10) == made[7]
    again = w.request(request_id=requests[7].request_id, order_id="another")
    assert await refusal(w.stub.CreateBinding(again, timeout=10)) == (
        "ALREADY_EXISTS REQUEST_ID_REUSED"
    )
    # Lists go over the cells, in the order of creation, page by page.
    seen: list[str] = []
    token = ""
    while True:
        page = await w.list(order_id="order-1", page_size=7, page_token=token)
        seen += [each.name for each in page.bindings]
        token = page.next_page_token
        if not token:
            break
    wanted = [each.name for n, each in enumerate(made) if n % 3 == 1]
    if before.order_id == "order-1":
        wanted.append(before.name)
    assert seen == sorted(wanted)
    changed = await w.update(made[3].name, 1, 9000, str(uuid.uuid4()))
    assert (await w.get(made[3].name)) == changed
    assert (await w.release(made[4].name)).state == RELEASED
    # A cell that is lost heals by itself, the other goes on.
    await drop(cells[1])
    party = phone_number_pb2.PhoneNumber(e164=B)
    async with asyncio.timeout(30):
        while await refusal(w.list(party=party)) != "OK":
            await asyncio.sleep(0.05)
    assert [await w.get(each.name) for each in made[5:]] == made[5:]
    for cell in cells:
        await cell.close()
