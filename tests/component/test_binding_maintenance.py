"""`rebuild` and `check` of binding, as processes on real brokers."""

import asyncio
from pathlib import Path

import pytest

from services.binding.maintenance import comparable_at
from services.binding.service import cell_of
from services.runtime import maintenance
from services.runtime.cell import Cell
from services.runtime.maintenance import drop
from tests.commands import run_command
from tests.component.binding_world import World, world
from tests.component.test_binding_blacklistservicer import Listing
from tests.factories import unique

pytestmark = pytest.mark.both_stores


async def wiped(w: World) -> None:
    cell = cell_of(w.settings)
    await drop(cell)
    await cell.close()


async def relayed(cell: Cell, close: bool = True) -> None:
    """Waits until Kafka has all."""
    async with asyncio.timeout(20):
        while await cell.redis.xlen(cell.key("outbox")):
            await asyncio.sleep(0.02)
    if close:
        await cell.close()


@pytest.mark.timeout(180)
async def test_an_empty_store_is_rebuilt_and_checked(
    kafka_bootstrap: str, valkey_url: str, tmp_path: Path
) -> None:
    async with world(kafka_bootstrap, valkey_url, tmp_path) as w:
        requests = [w.request(order_id=f"order-{i % 7}") for i in range(120)]
        made = [await w.stub.CreateBinding(each, timeout=10) for each in requests]
        ended = await w.release(made[0].name)
        changed = await w.update(made[1].name, 1, 9000)
        listing = Listing(w)
        listed, removed = await listing.add("+8613812345670"), await listing.add("+8613812345671")
        removed = await listing.remove(removed.name)
        await relayed(cell_of(w.settings))
        status, said = await run_command("binding", "check", w.settings)
        assert (status, said["same"], said["differences"]) == (0, True, 0)
        assert said["keys"] > 120 * 3

    await wiped(w)
    status, said = await run_command("binding", "check", w.settings)
    assert (status, said["same"]) == (1, False)
    assert set(said["first"].values()) == {"not in the store"}

    status, said = await run_command("binding", "rebuild", w.settings)
    assert status == 0
    assert said["cell"] == w.settings.cell
    assert min(said["records"].values()) >= 1
    assert (await run_command("binding", "check", w.settings))[0] == 0
    async with w.running():
        assert await w.get(made[0].name) == ended
        assert await w.get(made[1].name) == changed
        assert await w.stub.CreateBinding(requests[2], timeout=10) == made[2]
        assert len((await w.list(order_id="order-3")).bindings) == 17
        assert list((await Listing(w).list()).entries) == [listed, removed]


@pytest.mark.timeout(180)
async def test_a_running_owner_gives_way_and_takes_over_again(
    kafka_bootstrap: str, valkey_url: str, tmp_path: Path
) -> None:
    async with world(kafka_bootstrap, valkey_url, tmp_path) as w:
        made = await w.create()
        assert (await run_command("binding", "rebuild", w.settings))[0] == 0
        async with asyncio.timeout(30):
            while True:
                try:
                    assert (await w.create()).name != made.name
                    break
                except Exception as away:
                    assert "UNAVAILABLE" in str(away)  # noqa: PT017
                    await asyncio.sleep(0.1)
        assert await w.get(made.name) == made


@pytest.mark.timeout(180)
async def test_what_differs_is_told(kafka_bootstrap: str, valkey_url: str, tmp_path: Path) -> None:
    async with world(kafka_bootstrap, valkey_url, tmp_path) as w:
        made = [await w.create() for _ in range(3)]
        ids = [each.name.rsplit("/", 1)[1] for each in made]
        cell = cell_of(w.settings)
        await relayed(cell, close=False)
        await cell.redis.zrem(cell.key("expiry"), ids[0])
        await cell.redis.delete(cell.key("binding", ids[1]))
        await cell.redis.set(cell.key("request", "didi", "nobodys"), b"x")
        status, said = await run_command("binding", "check", w.settings)
        assert status == 1
        assert said["first"] == {
            f"binding:{ids[1]}": "not in the store",
            "expiry": f"1 of 3 parts, first {ids[0]}",
            "request:didi:nobodys": "not in Kafka",
        }
        await cell.close()


async def test_large_sets_are_compared_page_by_page(
    valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "_LARGE", 50)
    monkeypatch.setattr(maintenance, "_PAGE", 20)
    one, two = (Cell(valkey_url, "toy", unique("cell"), "") for _ in range(2))
    members = {f"m{number}": float(number) for number in range(120)}
    for cell in (one, two):
        await cell.redis.zadd(cell.key("due"), members)
    same = await maintenance.compare(one, two, lambda _name, value: value)
    assert same == (1, {})
    await two.redis.zadd(two.key("due"), {"m7": 1})
    await two.redis.zrem(two.key("due"), "m9")
    await two.redis.zadd(two.key("other"), members)
    _, found = await maintenance.compare(one, two, lambda _name, value: value)
    assert found == {"due": "2 parts, 120 against 119", "other": "not in the store"}
    ignored = await maintenance.compare(one, two, lambda _name, _value: None)
    assert ignored == (0, {})
    for cell in (one, two):
        await drop(cell)
        assert await cell.redis.exists(cell.key("due")) == 0
        await cell.close()


async def test_another_command_is_refused(tmp_path: Path) -> None:
    w = World("127.0.0.1:1", "redis://127.0.0.1:1", tmp_path, "127.0.0.1:1", 60)
    assert await run_command("binding", "erase", w.settings) == (2, None)


def test_what_two_stores_of_the_same_bindings_may_differ_in_is_left_out() -> None:
    assert comparable_at(5, "binding:b", {b"sq": b"7", b"v": b"1"}) == {b"v": b"1"}
    number = {b"epoch": b"9", b"pairs": b"0", b"cool": b"6"}
    assert comparable_at(5, "number:7", number) == {b"cool": b"6"}
    assert comparable_at(6, "number:7", number) is None
    assert comparable_at(5, "tags:7", {b"t": b"6", b"u": b"5", b"w": b"Lb"}) == {
        b"t": b"6", b"w": b"Lb",
    }  # fmt: skip
    assert comparable_at(5, "request:r", b"x") == b"x"


def test_a_restored_consent_is_compared_without_its_place_in_the_outbox() -> None:
    held = {b"v": b"2", b"r": b"record", b"sq": b"7"}
    left = comparable_at(0, "register:consent/didi/c1", held)
    assert left == {b"v": b"2", b"r": b"record"}
