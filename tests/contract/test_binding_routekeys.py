"""Route keys on a real Valkey: one key whoever asks, known only once it is acknowledged."""

import asyncio

from services.binding.routekeys import RouteKeys
from services.runtime.clock import SystemClock
from tests.unit.binding.cells import RECORDS, ready_cell

KEY = "route/didi/20260101"


async def test_all_who_ask_get_one_key_that_kafka_has(valkey_url: str) -> None:
    async with ready_cell(valkey_url) as ready:
        processes = [RouteKeys(ready.cell, RECORDS, ready.keyring, SystemClock()) for _ in range(3)]
        got = await asyncio.gather(*(each.get(KEY) for each in processes * 5))
        assert len(set(got)) == 1
        assert [record.key.decode() for record in ready.on("binding.keys.v1")] == [KEY]
        assert got[0].key not in (ready.on("binding.keys.v1")[0].value or b"")
        other = await processes[0].get("route/didi/20260102")
        assert other.key != got[0].key


async def test_a_key_made_by_a_heal_is_asked_for_again(valkey_url: str) -> None:
    """The heal may break off, and the next one knows another key, or none."""
    async with ready_cell(valkey_url) as ready:
        keys = RouteKeys(ready.cell, RECORDS, ready.keyring, SystemClock())
        healed = await keys.get(KEY, b"1")
        await ready.cell.redis.delete(ready.cell.key("key", KEY))
        assert (await keys.get(KEY)).key != healed.key
