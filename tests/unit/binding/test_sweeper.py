"""Sweepers on stores in memory: never early, never twice, not at all while clocks disagree."""

from collections.abc import Sequence
from datetime import timedelta

import pytest

from services.binding import sweeper
from services.binding.domain import Binding, Reason
from services.binding.ports import Stored
from services.runtime.clock import ManualClock
from services.runtime.errors import AxbridgeError, DataLoss
from services.runtime.keyring import KeyDestroyed
from services.runtime.metrics import Metrics
from tests.unit.binding.memory import MemoryBindings, binding


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store(clock: ManualClock) -> MemoryBindings:
    made = MemoryBindings(clock)
    for i in range(10):
        made.rows[f"b{i}"] = Stored(binding(clock, f"b{i}"), 0, None)
    return made


async def test_bindings_are_released_at_their_expiry_once(
    store: MemoryBindings, clock: ManualClock
) -> None:
    metrics = Metrics("binding")
    sweep = sweeper.expiry(store, clock, metrics).sweep
    clock.advance(timedelta(hours=1, milliseconds=-1))
    assert await sweep() == (0, 0)
    clock.advance(timedelta(milliseconds=1))
    assert await sweep() == (10, 10)
    assert await sweep() == (0, 0)
    assert {row.binding.reason for row in store.rows.values()} == {Reason.EXPIRED}
    assert {row.binding.version for row in store.rows.values()} == {2}
    count = metrics.registry.get_sample_value("binding_sweep_lag_seconds_count", {"job": "expiry"})
    assert count == 10


async def test_ended_bindings_are_forgotten_after_a_day(
    store: MemoryBindings, clock: ManualClock
) -> None:
    sweep = sweeper.forgetter(store, clock, Metrics("binding")).sweep
    for row in list(store.rows.values()):
        await store.release(row, row.binding.released(clock.epoch_ms(), Reason.REQUESTED))
    assert (await sweep())[0] == 0
    clock.advance(timedelta(days=1))
    assert (await sweep())[0] == 10
    assert store.rows == {}


async def test_nothing_is_swept_while_clocks_disagree(
    store: MemoryBindings, clock: ManualClock
) -> None:
    metrics, ours = Metrics("binding"), ManualClock()
    sweep = sweeper.expiry(store, ours, metrics).sweep
    clock.advance(timedelta(days=1))  # the store's clock leaps
    assert await sweep() == (0, 0)
    assert all(row.binding.live for row in store.rows.values())
    stopped = metrics.registry.get_sample_value("binding_sweeper_stopped", {"job": "expiry"})
    assert stopped == 1
    ours.advance(timedelta(days=1, seconds=1))
    assert (await sweep())[0] == 10


@pytest.mark.parametrize(
    "why", [DataLoss("SEAL_BROKEN"), KeyDestroyed("KEY_DESTROYED")], ids=["broken", "destroyed"]
)
async def test_unreadable_bindings_do_not_keep_the_others_and_are_tried_hourly(
    store: MemoryBindings, clock: ManualClock, why: AxbridgeError
) -> None:
    """As many of them as a batch holds, all due before the others."""
    metrics = Metrics("binding")
    store.broken = {f"a{i}": why for i in range(500)}
    good = dict(store.rows)
    store.rows = {each: Stored(binding(clock, each), 0, None) for each in store.broken} | good
    clock.advance(timedelta(hours=2))
    sweep = sweeper.expiry(store, clock, metrics).sweep

    def unreadable() -> float | None:
        return metrics.registry.get_sample_value(
            "binding_sweep_unreadable_total", {"job": "expiry"}
        )

    assert [(await sweep())[0] for _ in range(3)] == [0, 10, 0]
    assert unreadable() == 500
    clock.advance(timedelta(hours=1))
    assert await sweep() == (0, 0)
    assert unreadable() == 1000


async def test_what_cannot_be_ended_is_put_off(store: MemoryBindings, clock: ManualClock) -> None:
    class Halting(MemoryBindings):
        async def expire(
            self, ends: Sequence[tuple[Stored, Binding]]
        ) -> Sequence[int | AxbridgeError]:
            return [*await super().expire(ends[:-1]), KeyDestroyed("KEY_DESTROYED")]

    halting = Halting(clock)
    halting.rows = store.rows
    clock.advance(timedelta(hours=2))
    assert (await sweeper.expiry(halting, clock, Metrics("binding")).sweep())[0] == 9
    assert list(halting.postponed) == ["b9"]


async def test_what_another_hand_ended_meanwhile_is_left_as_it_is(
    store: MemoryBindings, clock: ManualClock
) -> None:
    class Late(MemoryBindings):
        async def read(self, ids: Sequence[str]) -> Sequence[Stored | AxbridgeError | None]:
            found = await super().read(ids)
            row = self.rows["b3"]
            await self.release(row, row.binding.released(self.clock.epoch_ms(), Reason.REQUESTED))
            return found

    late = Late(clock)
    late.rows = store.rows
    clock.advance(timedelta(hours=2))
    assert (await sweeper.expiry(late, clock, Metrics("binding")).sweep())[0] == 9
    assert late.rows["b3"].binding.version == 2
    assert late.postponed == {}
