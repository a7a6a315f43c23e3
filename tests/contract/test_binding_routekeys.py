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
