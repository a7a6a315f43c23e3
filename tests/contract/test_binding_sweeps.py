"""One suite for ports.Sweeps, on the store in memory and on a real Valkey."""

import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from axbridge.binding.v1 import events_pb2

from services.binding import modes, sweeper
from services.binding.domain import Answered, Binding, Lease, Mode, Reason
from services.binding.ports import Index, Stored, Sweeps, Swept
from services.runtime.clock import ManualClock, SystemClock
from services.runtime.errors import DataLoss
from services.runtime.ids import TimeOrderedIds
from services.runtime.metrics import Metrics
from services.runtime.options import Options
from services.runtime.phone import PhoneNumber
from tests.unit.binding.cells import ready_cell
from tests.unit.binding.memory import DAY_MS, TENANT, MemoryBindings, terms

IDS = TimeOrderedIds()
A, B = PhoneNumber("+8613512345678"), PhoneNumber("+8613612345678")
FAR_MS = 60_000


def now_ms() -> int:
    return int(datetime.now(UTC).timestamp() * 1000)


@dataclass
class Subject:
    """Both sides of a store."""

    store: Swept
    sweeps: Sweeps
    epoch: int = 0

    async def create(
        self, life_ms: int = -1000, mode: Mode = Mode.AXB, numbers: str = ""
    ) -> Binding:
        self.epoch += 1
        now = now_ms()
        options = Options(numbers=numbers)
        some = replace(terms(ManualClock()), expire_ms=now + life_ms, mode=mode, options=options)
        tag_b = b"" if mode is Mode.AX else b"b" * 16
        made = Binding(
            TENANT, IDS.new(), numbers[:15] or f"7001000{self.epoch:08d}", some, b"a" * 16, tag_b,
            self.epoch, 300, True, now, now, (Answered(str(uuid.uuid4()), b"h" * 16, now, 1),),
            second_epoch=self.epoch,
        )  # fmt: skip
        lease = Lease(made.number, made.lease_epoch, now + 60_000, True, 300)
        await self.store.create(made, A, B if tag_b else None, b"o" * 16, lease)
        return made

    async def stored(self, *made: Binding) -> list[Stored]:
        found = await self.sweeps.read([each.id for each in made])
        assert all(isinstance(each, Stored) for each in found)
        return [each for each in found if isinstance(each, Stored)]

    async def due(self, what: str) -> Sequence[str]:
        return (await self.sweeps.due("expiry" if what == "expiry" else "forget", 1000))[1]


@pytest.fixture(params=["memory", "valkey_url", "cluster_url"])
async def s(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    if request.param == "memory":
        memory = MemoryBindings(ManualClock(datetime.now(UTC)))
        yield Subject(memory, memory)
        return
    async with ready_cell(request.getfixturevalue(request.param)) as ready:
        yield Subject(ready.bindings, ready.sweeps)


def ends(stored: Sequence[Stored]) -> list[tuple[Stored, Binding]]:
    return [(each, each.binding.released(now_ms(), Reason.EXPIRED)) for each in stored]


async def test_those_that_have_expired_end_once_and_the_others_stay(s: Subject) -> None:
    """More than go in one call; one that is not due, and one that was ended meanwhile."""
    made = [await s.create() for _ in range(120)]
    assert list(await s.due("expiry")) == [each.id for each in made]
    early = await s.create(FAR_MS)
    stored = await s.stored(*made, early)
    [(_, other)] = ends(stored[50:51])
    await s.store.release(stored[50], other)
    outcomes = await s.sweeps.expire(ends(stored))
    assert [place for place, each in enumerate(outcomes) if each == 0] == [50, 120]
    sequences = [each for each in outcomes if isinstance(each, int) and each]
    assert len(set(sequences)) == 119
    await s.sweeps.published(max(sequences), 5)
    assert list(await s.sweeps.expire(ends(stored))) == [0] * 121
    again = await s.stored(*made, early)
    assert [each.binding.version for each in again] == [2] * 120 + [1]
    assert all(each.binding.reason is Reason.EXPIRED for each in again[:-1])
    assert await s.due("expiry") == []


async def test_a_callee_is_due_when_its_minute_is_over(s: Subject) -> None:
    made = await s.create(FAR_MS, mode=Mode.AX)
    [old] = await s.stored(made)
    request = Answered(str(uuid.uuid4()), b"u" * 16, now_ms() - 65_000, 0)
    named = modes.named(old.binding, b"y" * 16, request)
    await s.store.change(old, named, B)
    assert await s.due("expiry") == [made.id]
    [old] = await s.stored(made)
    change = (old, modes.unnamed(named, now_ms()))
    [sequence] = await s.sweeps.unname([change])
    assert sequence
    assert await s.sweeps.unname([change]) == [0]
    assert await s.due("expiry") == []
    [left] = await s.stored(made)
    assert (left.binding.tag_b, left.binding.live, left.binding.version) == (b"", True, 3)


async def test_what_is_forgotten_is_gone_with_its_request(s: Subject) -> None:
    old, young = await s.create(), await s.create()
    [one, other] = await s.stored(old, young)
    yesterday = one.binding.released(one.binding.create_ms - DAY_MS - 1000, Reason.REQUESTED)
    await s.store.release(one, yesterday)
    await s.store.release(other, ends([other])[0][1])
    assert await s.due("forget") == [old.id]
    sequence, refused = await s.sweeps.forget(await s.stored(old, young))
    assert refused == 0  # a day has to pass
    assert isinstance(sequence, int)
    await s.sweeps.published(sequence, 5)
    assert await s.sweeps.read([old.id]) == [None]
    assert await s.store.answered(TENANT, old.requests[0].request_id) is None
    assert await s.store.answered(TENANT, young.requests[0].request_id) is not None
    assert await s.store.page(TENANT, Index("number", old.number), "", 10) == []
    assert await s.due("forget") == []


async def test_two_numbers_end_and_are_forgotten_together(s: Subject) -> None:
    x, y = "700100099990001", "700100099990002"
    made = await s.create(mode=Mode.AXYB, numbers=f"{x}-{y}")
    [old] = await s.stored(made)
    for number in (x, y):
        assert await s.store.page(TENANT, Index("number", number), "", 10) == [made.id]
    yesterday = old.binding.released(old.binding.create_ms - DAY_MS - 1000, Reason.EXPIRED)
    assert await s.sweeps.expire([(old, yesterday)]) != [0]
    [sequence] = await s.sweeps.forget(await s.stored(made))
    assert isinstance(sequence, int)
    await s.sweeps.published(sequence, 5)
    for number in (x, y):
        assert await s.store.page(TENANT, Index("number", number), "", 10) == []
    again = await s.create(mode=Mode.AXYB, numbers=f"{y}-{x}")  # nothing rests there
    assert (await s.stored(again))[0].binding == again


async def test_what_is_due_can_be_put_off(s: Subject) -> None:
    made = await s.create()
    now, ids = await s.sweeps.due("expiry", 10)
    assert ids == [made.id]
    await s.sweeps.postpone("expiry", made.id, now + 60_000)
    await s.sweeps.postpone("expiry", "unknown", 0)
    assert await s.due("expiry") == []


@pytest.mark.parametrize(
    "garbage",
    [b"\xff\xff", b"\x00", b"\x0a\x00", events_pb2.BindingRecord(
        route=events_pb2.Route(binding="b", release_reason=99)).SerializeToString()],  # type: ignore[arg-type]
    ids=["no message", "no field", "empty", "no reason"],
)  # fmt: skip
async def test_a_record_that_means_nothing_is_set_aside_and_the_others_end(
    valkey_url: str, garbage: bytes
) -> None:
    async with ready_cell(valkey_url) as ready:
        s, metrics = Subject(ready.bindings, ready.sweeps), Metrics("binding")
        first, second = await s.create(), await s.create()
        await ready.cell.redis.hset(ready.bindings.places.binding(first.id), "r", garbage)
        sweep = sweeper.expiry(ready.sweeps, SystemClock(), metrics).sweep
        assert (await sweep())[0] == 1
        [stored] = await s.stored(second)
        assert not stored.binding.live
        assert await s.due("expiry") == []
        count = metrics.registry.get_sample_value(
            "binding_sweep_unreadable_total", {"job": "expiry"}
        )
        assert count == 1


async def test_records_that_do_not_open_say_so_and_the_others_open(valkey_url: str) -> None:
    async with ready_cell(valkey_url) as ready:
        s = Subject(ready.bindings, ready.sweeps)
        first, second = await s.create(), await s.create()
        key = ready.bindings.places.binding(first.id)
        raw: Any = await ready.cell.redis.hget(key, "r")
        record = events_pb2.BindingRecord.FromString(raw)
        record.secrets.box = record.secrets.box[:-1] + bytes([record.secrets.box[-1] ^ 1])
        await ready.cell.redis.hset(key, "r", record.SerializeToString())
        found = await ready.sweeps.read([first.id, second.id, "none"])
        assert isinstance(found[0], DataLoss)
        assert isinstance(found[1], Stored)
        assert found[2] is None
