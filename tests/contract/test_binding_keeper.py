"""The keeper on a real Valkey and, for what it reads, on a real Kafka."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest
from axbridge.binding.v1 import events_pb2
from confluent_kafka import Producer

from services.binding.keeper import Keeper, read_keys
from services.binding.routekeys import RouteKeys
from services.runtime.clock import ManualClock
from services.runtime.keyring import KeyDestroyed
from services.runtime.record import Record
from services.runtime.wrapping import route_key_id
from tests.conftest import NewTopicName
from tests.unit.binding.cells import RECORDS, ReadyCell, ready_cell

TODAY = datetime.now(UTC)


class Kept:
    """A keeper on a cell whose records it reads from what left the outbox."""

    def __init__(self, ready: ReadyCell, label: str = "1", now: datetime = TODAY) -> None:
        self.ready, self.clock = ready, ManualClock(now)
        self.foreign: dict[str, Record] = {}
        self.keys = RouteKeys(ready.cell, RECORDS, ready.keyring, self.clock, label)
        source = f"/axbridge/binding/{ready.cell.name}".encode()
        self.keeper = Keeper(self.keys, ready.keyring, self.clock, self.read, source)

    async def read(self) -> Mapping[str, Record]:
        newest = {r.key.decode(): r for r in self.ready.on("binding.keys.v1")}
        return newest | self.foreign


def day(ready: ReadyCell, days: int) -> str:
    return route_key_id(f"didi@{ready.cell.name}", TODAY + timedelta(days=days))


async def test_keys_are_made_a_week_ahead_and_end_a_day_after(valkey_url: str) -> None:
    async with ready_cell(valkey_url) as ready:
        early = Kept(ready, now=TODAY - timedelta(days=2))
        await early.keys.get(day(ready, -2))
        late = ready.on("binding.keys.v1")[0]
        kept = Kept(ready)
        await kept.keeper.keep()
        newest = await kept.read()
        standing = sorted(key for key, record in newest.items() if record.value is not None)
        assert newest[day(ready, -2)].value is None
        # The key that ended was the tenant's only one: it is still the tenant's.
        assert standing == [day(ready, n) for n in range(8)]
        published = len(ready.on("binding.keys.v1"))
        await kept.keeper.keep()  # nothing is left to do
        assert len(ready.on("binding.keys.v1")) == published
        kept.foreign[day(ready, -2)] = late  # comes behind its tombstone
        await kept.keeper.keep()
        assert ready.on("binding.keys.v1")[-1].value is None


async def test_a_label_is_rotated_without_touching_what_is_sealed(valkey_url: str) -> None:
    async with ready_cell(valkey_url) as ready:
        before = await Kept(ready).keys.get(day(ready, 0))
        old = wrapping(ready.on("binding.keys.v1")[0])
        rotated = Kept(ready, "2")
        await rotated.keeper.keep()
        newest = (await rotated.read()).values()
        assert {wrapping(each).split("/")[1] for each in newest} == {"2"}
        ready.keyring.derive(old, b"wrap/v1")  # routers open both meanwhile
        rotated.clock.advance(timedelta(minutes=61))
        # Another cell has yet to do it: its record is under the old key.
        rotated.foreign["route/other/20260101"] = ready.on("binding.keys.v1")[0]
        await rotated.keeper.keep()
        ready.keyring.derive(old, b"wrap/v1")
        rotated.foreign.clear()
        await rotated.keeper.keep()
        with pytest.raises(KeyDestroyed):
            ready.keyring.derive(old, b"wrap/v1")
        assert await Kept(ready, "2").keys.get(day(ready, 0)) == before


async def test_a_key_that_does_not_open_keeps_no_other_from_its_end(valkey_url: str) -> None:
    async with ready_cell(valkey_url) as ready:
        early = Kept(ready, now=TODAY - timedelta(days=2))
        for days in (-2, 0):
            await early.keys.get(day(ready, days))
        ready.keyring.destroy(wrapping(ready.on("binding.keys.v1")[1]))  # today's, by mistake
        kept = Kept(ready, "2")
        with pytest.raises(KeyDestroyed):  # today's cannot be given to anybody
            await kept.keeper.keep()
        assert (await kept.read())[day(ready, -2)].value is None


async def test_keys_of_other_cells_are_not_touched(valkey_url: str) -> None:
    async with ready_cell(valkey_url) as one, ready_cell(valkey_url) as other:
        await Kept(one, now=TODAY - timedelta(days=2)).keys.get(day(one, -2))
        kept = Kept(other)
        kept.foreign = {r.key.decode(): r for r in one.on("binding.keys.v1")}
        await kept.keeper.keep()
        assert other.on("binding.keys.v1") == []
        one.keyring.derive(wrapping(one.on("binding.keys.v1")[0]), b"wrap/v1")


def wrapping(record: Record) -> str:
    return events_pb2.RouteKey.FromString(record.value or b"").wrapped.key_id


async def test_the_newest_record_of_each_key_is_read_from_kafka(
    kafka_bootstrap: str, new_topic: NewTopicName
) -> None:
    topic = new_topic()
    producer = Producer({"bootstrap.servers": kafka_bootstrap})
    for key, value in ((b"a", b"1"), (b"b", b"1"), (b"a", b"2"), (b"b", None)):
        producer.produce(topic, key=key, value=value, partition=0)
    await asyncio.to_thread(producer.flush, 10)
    found = await read_keys(kafka_bootstrap, topic)
    assert {key: record.value for key, record in found.items()} == {"a": b"2", "b": None}
