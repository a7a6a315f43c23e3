"""A cell on real Valkey and Kafka: one write, one owner, loss and repair (docs/design/cells.md)."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from deploy.local.compaction import contents
from deploy.local.valkey import Valkey
from services.runtime.cell import Cell
from services.runtime.envelope import Headers, header_int
from services.runtime.errors import Unavailable
from services.runtime.owner import Owner
from services.runtime.publisher import Outgoing, Publisher, PublishFailed, Publishing
from services.runtime.tasks import ended
from tests.contract.toy import TOY, Toy
from tests.factories import unique

pytestmark = pytest.mark.both_stores


async def until(condition: Callable[[], object], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def running(*owners: Owner) -> AsyncIterator[list[asyncio.Task[None]]]:
    tasks = [asyncio.create_task(owner.run()) for owner in owners]
    try:
        yield tasks
    finally:
        await ended(tasks)


async def ready(toy: Toy) -> None:
    async with asyncio.timeout(20):
        while not await toy.cell.refresh():
            await asyncio.sleep(0.02)


@pytest.fixture
async def toy(valkey_url: str, new_topic: Callable[..., str]) -> AsyncIterator[Toy]:
    made = Toy(valkey_url, unique("cell"), new_topic("toy", config={"cleanup.policy": "compact"}))
    await made.cell.open()
    yield made
    await made.cell.close()


def latest(bootstrap: str, topic: str) -> dict[str, bytes | None]:
    return {
        record.key.decode(): record.value
        for record in contents(bootstrap, topic)
        if record.key and not record.key.startswith(b"cell/")
    }


async def test_a_write_is_answered_once_kafka_has_it(toy: Toy, kafka_bootstrap: str) -> None:
    async with running(toy.owner(kafka_bootstrap)):
        await ready(toy)
        sequences = await asyncio.gather(*(toy.put(f"n{i}", "one", 1) for i in range(50)))
        await asyncio.gather(*(toy.cell.published(sequence) for sequence in sequences))
        assert latest(kafka_bootstrap, toy.topic) == {f"n{i}": b"one" for i in range(50)}
        assert await toy.cell.redis.xlen(toy.cell.key("outbox")) == 0


async def test_without_an_owner_nothing_is_written(toy: Toy) -> None:
    with pytest.raises(Unavailable, match="STORE_HEALING"):
        await toy.put("a", "one", 1)


async def test_a_lost_store_is_healed_and_refuses_meanwhile(
    tmp_path: Path, kafka_bootstrap: str, new_topic: Callable[..., str]
) -> None:
    with Valkey(tmp_path / "valkey") as valkey:
        toy = Toy(valkey.url, "c0", new_topic("toy", config={"cleanup.policy": "compact"}))
        await toy.cell.open()
        async with running(toy.owner(kafka_bootstrap)):
            await ready(toy)
            for i in range(20):
                await toy.cell.published(await toy.put(f"n{i}", "one", 1))
            await toy.cell.redis.flushall()
            with pytest.raises(Unavailable, match="STORE_HEALING"):
                await toy.put("n0", "two", 2)
            await ready(toy)
            assert [await toy.get(f"n{i}") for i in range(20)] == [("one", 1)] * 20
            await toy.cell.published(await toy.put("n0", "two", 2))
        await toy.cell.close()
    assert latest(kafka_bootstrap, toy.topic)["n0"] == b"two"


@pytest.mark.parametrize("appendonly", [False, True])
async def test_a_restarted_store_is_never_served_before_it_is_healed(
    tmp_path: Path, kafka_bootstrap: str, new_topic: Callable[..., str], appendonly: bool
) -> None:
    valkey = Valkey(tmp_path / "valkey", appendonly=appendonly).start()
    toy = Toy(valkey.url, "c0", new_topic("toy", config={"cleanup.policy": "compact"}))
    await toy.cell.open()
    async with running(toy.owner(kafka_bootstrap)):
        await ready(toy)
        await toy.cell.published(await toy.put("a", "one", 1))
    valkey.kill()
    with pytest.raises(Unavailable, match="STORE_UNAVAILABLE"):
        await toy.put("a", "two", 2)
    valkey.start()
    with pytest.raises(Unavailable, match="STORE_HEALING"):
        await toy.get("a")
    async with running(toy.owner(kafka_bootstrap)):
        await ready(toy)
        assert await toy.get("a") == ("one", 1)
        await toy.cell.published(await toy.put("a", "two", 2))
    await toy.cell.close()
    valkey.stop()


async def test_a_store_marked_under_a_living_owner_is_healed(
    toy: Toy, kafka_bootstrap: str
) -> None:
    async with running(toy.owner(kafka_bootstrap)):
        await ready(toy)
        await toy.cell.published(await toy.put("a", "one", 1))
        # As a connection does that finds another server than the one known.
        mark: dict[Any, Any] = {"state": "healing", "store_epoch": "distrusted"}
        await toy.cell.redis.hset(toy.cell.key("meta"), mapping=mark)
        with pytest.raises(Unavailable, match="STORE_HEALING"):
            await toy.get("a")
        await ready(toy)
        await toy.cell.published(await toy.put("a", "two", 2))


async def test_a_restarted_store_costs_no_command_per_connection_of_before(tmp_path: Path) -> None:
    with Valkey(tmp_path / "valkey") as valkey:
        cell = Cell(valkey.url, "toy", "c0", TOY)
        await asyncio.gather(*(cell.redis.ping() for _ in range(6)))
        await asyncio.to_thread(valkey.kill)
        await asyncio.to_thread(valkey.start)  # meanwhile the loop hears of the closed connections
        assert await asyncio.gather(*(cell.redis.ping() for _ in range(6))) == [True] * 6
        await cell.close()


async def test_a_store_that_takes_no_writes_for_now_is_away(
    tmp_path: Path, kafka_bootstrap: str, new_topic: Callable[..., str]
) -> None:
    with Valkey(tmp_path / "valkey") as valkey:
        toy = Toy(valkey.url, "c0", new_topic("toy", config={"cleanup.policy": "compact"}))
        await toy.cell.open()
        async with running(toy.owner(kafka_bootstrap)):
            await ready(toy)
            await toy.cell.published(await toy.put("a", "one", 1))
        await toy.cell.redis.config_set("maxmemory", 1)
        with pytest.raises(Unavailable, match="STORE_UNAVAILABLE"):
            await toy.put("a", "two", 2)
        await toy.cell.redis.config_set("maxmemory", 0)
        await toy.cell.redis.replicaof("127.0.0.1", "1")
        with pytest.raises(Unavailable, match="STORE_UNAVAILABLE"):
            await toy.put("a", "two", 2)
        await toy.cell.redis.replicaof("NO", "ONE")
        assert await toy.put("a", "two", 2)
        await toy.cell.close()


async def test_whatever_breaks_a_pipeline_nobody_waits_for_ever(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def breaks(_commands: object) -> list[Any]:
        raise RuntimeError("a defect")

    monkeypatch.setattr(toy.cell, "exchange", breaks)
    async with asyncio.timeout(10):
        answers = await asyncio.gather(*(toy.get(n) for n in "ab"), return_exceptions=True)
    assert [type(answer) for answer in answers] == [RuntimeError, RuntimeError]


async def test_a_transport_closed_meanwhile_is_a_store_that_is_away(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def closed(*_args: object) -> None:
        raise RuntimeError("the handler is closed")  # uvloop's words

    monkeypatch.setattr("redis.asyncio.Connection.send_packed_command", closed)
    with pytest.raises(Unavailable, match="STORE_UNAVAILABLE"):
        await toy.get("a")


class Frozen:
    """A producer that stops before its next produce, as SIGSTOP would, until it is woken."""

    def __init__(self, bootstrap: str) -> None:
        self.inner = Publisher(bootstrap)
        self.freeze = False
        self.stopped = asyncio.Event()
        self.wake = asyncio.Event()

    async def publish(self, batch: Sequence[Outgoing]) -> None:
        if self.freeze:
            self.stopped.set()
            await self.wake.wait()
        await self.inner.publish(batch)

    def close(self) -> None:
        if not self.freeze:
            self.inner.close()


async def test_a_stale_record_of_a_frozen_relay_is_overruled(
    toy: Toy, kafka_bootstrap: str, valkey_url: str
) -> None:
    frozen = Frozen(kafka_bootstrap)
    publishers: list[Publishing] = []

    def connect() -> Publishing:
        # The first two are for the cell's own records, by the heal and of the term; then the relay.
        publishers.append(frozen if len(publishers) == 2 else Publisher(kafka_bootstrap))
        return publishers[-1]

    other = Toy(valkey_url, toy.cell.name, toy.topic)
    await other.cell.open()
    async with running(toy.owner(kafka_bootstrap, connect)) as [first]:
        await ready(toy)
        await toy.cell.published(await toy.put("a", "zero", 1))
        frozen.freeze = True
        await toy.put("a", "one", 2)
        await frozen.stopped.wait()
        late = frozen.inner
        await ended([first])
    async with running(other.owner(kafka_bootstrap)):
        await ready(other)
        await other.cell.published(await other.put("a", "two", 3))
        assert latest(kafka_bootstrap, toy.topic)["a"] == b"two"
        stale = next(r for r in contents(kafka_bootstrap, toy.topic) if r.value == b"one")
        old: Headers = [(k, b"1" if k == "ce_axepoch" else v) for k, v in stale.headers]
        await late.publish([Outgoing(toy.topic, 0, b"a", b"one", old)])
        await until(lambda: latest(kafka_bootstrap, toy.topic)["a"] == b"two")
        late.close()
    await other.cell.close()


async def test_what_a_store_that_went_back_has_in_its_outbox_is_no_last_word(
    toy: Toy, kafka_bootstrap: str
) -> None:
    meta, outbox, value = (toy.cell.key(*p) for p in (("meta",), ("outbox",), ("v", "a")))
    async with running(toy.owner(kafka_bootstrap)):
        await ready(toy)
        first = await toy.put("a", "one", 1)
        await toy.cell.published(first)
        for version, word in enumerate(("two", "three"), start=2):
            await toy.cell.published(await toy.put("a", word, version))

    def words() -> list[bytes | None]:
        return [r.value for r in contents(kafka_bootstrap, toy.topic) if r.key == b"a"]

    # As before the first write was acknowledged: Kafka has had two more since.
    redis, entry = toy.cell.redis, toy._entry("a", "one", 1)
    back: dict[Any, Any] = {"acked": first - 1, "seq": first, "run_id": "another server's"}
    await redis.delete(outbox)
    await redis.xadd(outbox, {"e": entry}, id=f"{first}-0")
    await redis.hset(value, mapping={"value": "one", "version": "1"})
    await redis.hset(meta, mapping={**back, "state": "healing", "store_epoch": "distrusted"})
    async with running(toy.owner(kafka_bootstrap)):
        await ready(toy)
        assert await toy.get("a") == ("three", 3)
        await until(lambda: words()[3:4] == [b"one"])
        await until(lambda: words()[-1] == b"three")


class Unsure:
    """A producer that fails after all, once: its batch is on the topic, or still on its way."""

    fails = False

    def __init__(self, bootstrap: str) -> None:
        self.inner = Publisher(bootstrap)

    async def publish(self, batch: Sequence[Outgoing]) -> None:
        await self.inner.publish(batch)
        if Unsure.fails:
            Unsure.fails = False
            raise PublishFailed("_MSG_TIMED_OUT")

    def close(self) -> None:
        self.inner.close()


async def test_what_a_failed_session_had_under_way_is_of_an_older_term(
    toy: Toy, kafka_bootstrap: str
) -> None:
    async with running(toy.owner(kafka_bootstrap, lambda: Unsure(kafka_bootstrap))):
        await ready(toy)
        await toy.cell.published(await toy.put("a", "one", 1))
        Unsure.fails = True
        await toy.cell.published(await toy.put("a", "two", 2), timeout=10)
    written = [r for r in contents(kafka_bootstrap, toy.topic) if r.key == b"a"]
    assert [record.value for record in written] == [b"one", b"two", b"two"]
    terms = [header_int(list(record.headers), "ce_axepoch") for record in written]
    assert terms[1] < terms[2]


async def test_nobody_writes_under_an_epoch_that_kafka_does_not_know(
    toy: Toy, kafka_bootstrap: str
) -> None:
    frozen = Frozen(kafka_bootstrap)
    frozen.freeze = True
    publishers: list[Publishing] = []

    def connect() -> Publishing:
        publishers.append(Publisher(kafka_bootstrap) if publishers else frozen)
        return publishers[-1]

    async with running(toy.owner(kafka_bootstrap, connect)):
        await frozen.stopped.wait()
        with pytest.raises(Unavailable, match="STORE_HEALING"):
            await toy.put("a", "one", 1)
        frozen.freeze = False
        frozen.wake.set()
        await ready(toy)
        await toy.cell.published(await toy.put("a", "one", 1))


async def test_a_record_newer_than_a_lost_store_is_overruled(
    toy: Toy, kafka_bootstrap: str
) -> None:
    async with running(toy.owner(kafka_bootstrap)):
        await ready(toy)
        await toy.cell.published(await toy.put("a", "one", 1))
        publisher = Publisher(kafka_bootstrap)
        seen = next(r for r in contents(kafka_bootstrap, toy.topic) if r.key == b"a")
        replaced = {"ce_axepoch": b"0", "ce_axversion": b"2"}
        headers: Headers = [(k, replaced.get(k, v)) for k, v in seen.headers]
        await publisher.publish([Outgoing(toy.topic, 0, b"a", b"never acknowledged", headers)])
        await until(lambda: latest(kafka_bootstrap, toy.topic)["a"] == b"one")
        assert await toy.get("a") == ("one", 3)
        publisher.close()


async def test_two_processes_one_owner_and_both_hear_of_acks(
    toy: Toy, kafka_bootstrap: str, valkey_url: str
) -> None:
    other = Toy(valkey_url, toy.cell.name, toy.topic)
    await other.cell.open()
    owners = [toy.owner(kafka_bootstrap), other.owner(kafka_bootstrap)]
    async with running(*owners) as tasks:
        await ready(toy)
        await ready(other)
        await until(lambda: any(owner.owning for owner in owners))
        sequences = [await toy.put("a", "one", 1), await other.put("b", "one", 1)]
        await asyncio.gather(toy.cell.published(sequences[0]), other.cell.published(sequences[1]))
        assert sum(owner.owning for owner in owners) == 1
        owning = next(i for i, owner in enumerate(owners) if owner.owning)
        await ended([tasks[owning]])
        await until(lambda: owners[1 - owning].owning)
        await other.cell.published(await other.put("c", "one", 1), timeout=10)
    await other.cell.close()


async def test_a_full_outbox_refuses_writes(
    toy: Toy, kafka_bootstrap: str, valkey_url: str
) -> None:
    async with running(toy.owner(kafka_bootstrap)):
        await ready(toy)
    small = Toy(valkey_url, toy.cell.name, toy.topic)
    small.cell = Cell(valkey_url, "toy", toy.cell.name, TOY, max_outbox=2)
    sequences = [await small.put(f"n{i}", "one", 1) for i in range(2)]
    with pytest.raises(Unavailable, match="OUTBOX_FULL"):
        await small.put("n2", "one", 1)
    async with running(toy.owner(kafka_bootstrap)):
        await toy.cell.published(sequences[-1], timeout=10)
    await small.cell.close()
