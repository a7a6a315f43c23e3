"""The ledger on a real Valkey: compare-and-set, repaired, restored; see test_binding_purger too."""

import pytest

from services.binding.ledger import Ledger, Place
from services.binding.ports import Lost
from tests.contract.test_binding_purger import Purging
from tests.contract.test_binding_rebuild import CLOCK
from tests.unit.binding.cells import RECORDS, ready_cell

pytestmark = pytest.mark.both_stores


async def test_a_record_of_the_ledger_is_repaired_and_written_once(valkey_url: str) -> None:
    async with ready_cell(valkey_url) as ready:
        await Purging(ready).purger.purge()
        ledger = Ledger(ready.cell, RECORDS, CLOCK)
        place = Place("purge", "didi", ready.cell.name)
        [first] = ready.on("binding.state.v1")
        assert not await ready.rebuild.repair(first)
        entered = await ledger.get(place)
        state = entered.state
        state.purge.update_time.FromMilliseconds(5)
        state.purge.ClearField("purged")
        await ready.bindings.published(await ledger.put(place, 1, state), 5)
        assert await ready.rebuild.repair(first)  # a stale record behind the newer one
        with pytest.raises(Lost):
            await ledger.put(place, 1, state)
        await ready.bindings.published(await ledger.put(place, 2, None), 5)
        assert await ready.rebuild.repair(first)
        assert [each async for each in ledger.places("purge")] == []
