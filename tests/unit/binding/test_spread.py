"""Several cells behind one port: the party chooses, ids are found, request ids are one."""

from dataclasses import replace

import pytest

from services.binding.domain import Answered, Binding, Lease, Reason
from services.binding.ports import Bindings, Index, Numbers, Stored, Taken
from services.binding.spread import SpreadBindings, SpreadNumbers, tenant_of
from services.runtime.choice import chosen
from services.runtime.clock import ManualClock
from services.runtime.errors import Unavailable
from services.runtime.phone import PhoneNumber
from tests.unit.binding.memory import POOL, TENANT, MemoryBindings, MemoryNumbers, binding

CELLS = ("c0", "c1")
A, B = PhoneNumber("+8613512345678"), PhoneNumber("+8613612345678")


def cells_of(tenant: str) -> tuple[str, ...]:
    return CELLS if tenant == TENANT else CELLS[:1]


class World:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.cells = {name: MemoryBindings(self.clock) for name in CELLS}
        stores: dict[str, Bindings] = {**self.cells}
        self.store = SpreadBindings(stores, cells_of)

    def new(self, number: int) -> Binding:
        """Of a party of its own, on a number of its own."""
        tag = bytes([number]) * 16
        return binding(
            self.clock, f"b{number:03d}", number=f"7001000000{number:05d}", tag_a=tag,
            tag_b=bytes([number + 100]) * 16, exclusive=False,
        )  # fmt: skip

    async def create(self, made: Binding) -> int:
        lease = Lease(made.number, made.lease_epoch, self.clock.epoch_ms() + 9000, False, 0)
        return await self.store.create(made, A, B, b"o" * 16, lease)

    async def read(self, made: Binding) -> Stored:
        stored = await self.store.get(made.id)
        assert stored is not None
        return stored


async def test_the_party_chooses_and_whatever_is_asked_for_is_found() -> None:
    w = World()
    made = [w.new(number) for number in range(40)]
    sequences = [await w.create(each) for each in made]
    for each in made:
        home = chosen(CELLS, each.tag_a)
        assert [name for name, cell in w.cells.items() if each.id in cell.rows] == [home]
        assert (await w.read(each)).binding == each
        answer = await w.store.answered(TENANT, each.requests[0].request_id)
        assert answer is not None
        assert answer.binding == each.id
    assert min(len(cell.rows) for cell in w.cells.values()) > 5
    order = Index("order", (b"o" * 16).hex())
    assert await w.store.page(TENANT, order, "", 7) == [each.id for each in made[:7]]
    assert await w.store.page(TENANT, order, made[6].id, 99) == [each.id for each in made[7:]]
    for sequence in (*sequences, 0):
        await w.store.published(sequence, 1)
    assert sum(len(cell.waited) for cell in w.cells.values()) == 40
    assert await w.store.get("unknown") is None


async def test_a_binding_is_changed_and_released_where_it_is() -> None:
    w = World()
    made = [w.new(number) for number in range(10)]
    for each in made:
        await w.create(each)
        old = await w.read(each)
        now = w.clock.epoch_ms()
        request = Answered(f"update-{each.id}", b"u" * 16, now, 0)
        changed = old.binding.updated(1, old.binding.terms.expire_ms + 1000, request)
        await w.store.published(await w.store.change(old, changed), 1)
        stored = await w.read(each)
        assert stored.binding == changed
        ended = stored.binding.released(now, Reason.REQUESTED)
        await w.store.release(stored, ended)
        assert not (await w.read(each)).binding.live


async def test_a_request_id_that_another_cell_answered_is_taken() -> None:
    w = World()
    first = w.new(1)
    await w.create(first)
    other = next(w.new(n) for n in range(2, 50) if chosen(CELLS, w.new(n).tag_a)
                 != chosen(CELLS, first.tag_a))  # fmt: skip
    with pytest.raises(Taken) as taken:
        await w.create(replace(other, requests=first.requests))
    assert taken.value.answer.binding == first.id
    await w.create(other)
    old = await w.read(other)
    request = replace(first.requests[0], version=0, time_ms=w.clock.epoch_ms())
    changed = old.binding.updated(1, old.binding.terms.expire_ms + 1000, request)
    with pytest.raises(Taken):
        await w.store.change(old, changed)


async def test_a_cell_that_is_away_hides_nothing_of_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    w = World()
    made = [w.new(number) for number in range(10)]
    for each in made:
        await w.create(each)

    async def away(_binding: str) -> Stored | None:
        raise Unavailable("STORE_UNAVAILABLE")

    monkeypatch.setattr(w.cells["c1"], "get", away)
    for each in made:
        if chosen(CELLS, each.tag_a) == "c0":
            assert (await w.read(each)).binding == each
        else:
            with pytest.raises(Unavailable):
                await w.store.get(each.id)
    with pytest.raises(Unavailable):  # it may be there
        await w.store.get("unknown")


async def test_numbers_come_from_the_partys_cell_and_go_back_there() -> None:
    clock = ManualClock()
    sources = {name: MemoryNumbers(clock) for name in CELLS}
    numbers: dict[str, Numbers] = {**sources}
    spread = SpreadNumbers(numbers, cells_of)
    for number in range(20):
        tags = bytes([number]) * 16, b"b" * 16
        before = {name: each.leased for name, each in sources.items()}
        lease = await spread.lease(POOL, tags, (), 1)
        home = chosen(CELLS, tags[0])
        assert sources[home].leased == before[home] + 1
        lease = replace(lease, epoch=number)
        spread.give_back(POOL, lease)  # not one of ours: it runs out
    lease = await spread.lease(POOL, (b"a" * 16, b"b" * 16), (), 1)
    spread.give_back(POOL, lease)
    assert sources[chosen(CELLS, b"a" * 16)].returned == [lease.number]
    assert tenant_of("tenants/didi/pools/city") == "didi"
    assert tenant_of("nonsense") == ""
