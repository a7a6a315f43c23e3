import asyncio

import pytest

from services.runtime.acks import Acks, first_sequence
from services.runtime.errors import Unavailable


def begun(epoch: int = 1) -> tuple[Acks, int]:
    acks = Acks()
    acks.begin(epoch)
    return acks, first_sequence(epoch)


async def test_waiters_wake_in_any_order_up_to_the_acknowledged_sequence() -> None:
    acks, base = begun()
    waiting = {n: asyncio.create_task(acks.wait(base + n, 10)) for n in (3, 1, 2)}
    await asyncio.sleep(0)
    acks.advance(base + 2)
    await asyncio.gather(waiting[1], waiting[2])
    assert not waiting[3].done()
    acks.advance(base + 3)
    await waiting[3]


async def test_what_is_acknowledged_already_is_not_waited_for() -> None:
    acks, base = begun()
    acks.advance(base + 5)
    acks.advance(base + 4)  # an older message overtaken on its way
    await acks.wait(base + 5, 0)


async def test_an_entry_that_is_not_acknowledged_in_time_is_an_error_with_a_hint() -> None:
    acks, base = begun()
    with pytest.raises(Unavailable, match="LOG_UNAVAILABLE") as raised:
        await acks.wait(base + 1, 0)
    assert raised.value.retry_after is not None
    acks.advance(base + 1)  # its forgotten waiter does no harm


async def test_a_new_store_epoch_wakes_nobody_by_mistake() -> None:
    acks, base = begun(1)
    waiting = asyncio.create_task(acks.wait(base + 1, 10))
    await asyncio.sleep(0)
    acks.begin(2)
    with pytest.raises(Unavailable):
        await waiting
    with pytest.raises(Unavailable):
        await acks.wait(base + 1, 10)


async def test_an_acknowledgement_of_the_next_store_epoch_wakes_nobody_of_a_lost_one() -> None:
    """It may be heard before the new epoch is: another process healed the store and relays."""
    acks, base = begun(1)
    waiting = asyncio.create_task(acks.wait(base + 7, 10))
    await asyncio.sleep(0)
    acks.advance(first_sequence(2) + 1)
    await asyncio.sleep(0)
    assert not waiting.done()
    acks.begin(2)
    with pytest.raises(Unavailable, match="LOG_UNAVAILABLE"):
        await waiting


async def test_the_same_epoch_again_changes_nothing() -> None:
    acks, base = begun(1)
    acks.advance(base + 1)
    acks.begin(1)
    await acks.wait(base + 1, 0)
