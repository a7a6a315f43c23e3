"""Registers on a real Valkey: compare-and-set, ranks of marks, and what is due."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from axbridge.binding.v1 import events_pb2

from services.binding.consentmessages import consent_place
from services.binding.domain import Answered
from services.binding.ports import Lost, Taken
from services.binding.registers import Place, Register
from services.binding.upkeep import Drain, Upkeep
from services.runtime.clock import SystemClock
from services.runtime.metrics import Metrics
from tests.unit.binding.cells import REGISTER_RECORDS, ReadyCell, ready_cell
from tests.unit.binding.memory import DAY_MS, TENANT
from tests.unit.binding.memory_consents import consent

FIELD = b"s" + b"t" * 16
NOW = SystemClock().epoch_ms()


@pytest.fixture
async def cell(valkey_url: str) -> AsyncIterator[ReadyCell]:
    async with ready_cell(valkey_url) as ready:
        yield ready


def register(identity: str, version: int = 1, rank: int = 0, **changes: object) -> Register:
    state = events_pb2.StateRecord()
    state.consent.fact.tenant, state.consent.fact.consent = "didi", identity
    state.consent.fact.aggregate_version, state.consent.state = version, 1  # type: ignore[assignment]
    made = Register(
        Place("consent", "didi", identity), version, state, b"t" * 16, FIELD,
        f"{rank}:{NOW + 3_600_000}:{identity}", NOW + 3_600_000, (),
    )  # fmt: skip
    return made._replace(**changes)  # type: ignore[arg-type]


async def mark(cell: ReadyCell) -> str:
    return (await cell.registers.mark("consent", "didi", FIELD)).rpartition(":")[2]


async def test_a_version_follows_the_one_seen_under_the_mark_seen(cell: ReadyCell) -> None:
    put, first = cell.registers.put, register("e1")
    await put(first, 0, None, "")
    for stale, before, seen in (
        (register("e1"), 0, ""),
        (register("e1", 3), 2, first.mark),
        (register("e1", 2), 1, "0:1:other"),
        (register("e2"), 0, ""),
    ):
        with pytest.raises(Lost):
            await put(stale, before, None, seen)
    await put(register("e1", 2), 1, None, first.mark)
    raw = await cell.registers.get(first.place)
    assert raw is not None
    assert (raw.version, raw.field, raw.tag) == (2, FIELD, (b"t" * 16).hex())
    assert await cell.registers.get(Place("consent", "other", "e1")) is None


async def test_a_request_makes_one_version(cell: ReadyCell) -> None:
    asked = Answered("r1", b"h" * 16, NOW, 1)
    await cell.registers.put(register("e1"), 0, asked)
    with pytest.raises(Taken) as taken:
        await cell.registers.put(register("e2"), 0, asked)
    assert taken.value.answer == (b"h" * 16, "e1")
    assert await cell.registers.answered("didi", "r1") == (b"h" * 16, "e1")
    assert await cell.registers.answered("other", "r1") is None
    await cell.registers.put(register("e1", 2), 1, None)  # a job's version asks for no request


async def test_one_that_means_nothing_is_set_aside_and_the_others_have_their_turn(
    cell: ReadyCell,
) -> None:
    now, metrics = SystemClock().epoch_ms(), Metrics("binding")
    drain = Drain(cell.consents, cell.bindings, SystemClock())
    upkeep = Upkeep(
        cell.registers, REGISTER_RECORDS, cell.messages, cell.listed, drain, metrics
    )  # fmt: skip
    for identity, tag in (("e1", b"a" * 16), ("e2", b"b" * 16), ("e3", b"c" * 16)):
        over = replace(consent(now, identity, tag), expire_ms=now - 200 * DAY_MS)
        await cell.consents.put(over, None, None)
    other: Any = await cell.cell.redis.hget(
        cell.registers.key(consent_place(TENANT, "e3")), "r"
    )  # fmt: skip
    await cell.cell.redis.hset(cell.registers.key(consent_place(TENANT, "e1")), "r", b"\xff")
    await cell.cell.redis.hset(cell.registers.key(consent_place(TENANT, "e2")), "r", other)
    assert await upkeep.once() == 1  # e3 is forgotten
    assert (await cell.registers.due(10))[1] == []
    count = metrics.registry.get_sample_value("binding_sweep_unreadable_total", {"job": "upkeep"})
    assert count == 2


async def test_the_higher_rank_stands_and_only_its_own_is_taken_away(cell: ReadyCell) -> None:
    put = cell.registers.put
    await put(register("e1", rank=2), 0, None)
    await put(register("e2", rank=1), 0, None)
    assert await mark(cell) == "e1"
    await put(register("e3", rank=2), 0, None)
    assert await mark(cell) == "e3"
    await put(register("e1", 2, mark=""), 1, None)
    assert await mark(cell) == "e3"
    await put(register("e3", 2, mark=""), 1, None)
    assert await mark(cell) == ""


async def test_what_is_due_is_listed_and_dropped_then_only(cell: ReadyCell) -> None:
    await cell.registers.put(register("later"), 0, None)
    await cell.registers.put(register("never", due_ms=None, field=b"policy"), 0, None)
    await cell.registers.put(register("now", due_ms=0, field=b"other"), 0, None)
    now, places = await cell.registers.due(10)
    assert now == pytest.approx(SystemClock().epoch_ms(), abs=5000)
    assert [place.id for place in places] == ["now"]

    async def drop(identity: str) -> None:
        raw = await cell.registers.get(Place("consent", "didi", identity))
        assert raw is not None
        entry = REGISTER_RECORDS.tombstones(raw.place, raw.version, NOW)
        await cell.registers.drop(raw, entry)

    for early in ("later", "never"):
        with pytest.raises(Lost):
            await drop(early)
    await drop("now")
    assert (await cell.registers.due(10))[1] == []
    assert await cell.registers.get(Place("consent", "didi", "now")) is None
    assert await cell.registers.page("consent", "didi", b"", "", 10) == ["later", "never"]
    assert await mark(cell) == "later"
