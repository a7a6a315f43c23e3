"""A cell in a Valkey cluster: its slot is found, followed when it moves, and healed there."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from deploy.local.valkeycluster import ValkeyCluster
from services.runtime.errors import Unavailable
from services.runtime.node import Nodes, client
from tests.contract.test_cell import ready, running
from tests.contract.toy import Toy


async def written(toy: Toy, name: str, version: int) -> None:
    """However often the store says that it is away or heals."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await toy.cell.published(await toy.put(name, "one", version))
            except Unavailable:
                await asyncio.sleep(0.05)


@pytest.fixture
async def clustered(
    tmp_path: Path, kafka_bootstrap: str, new_topic: Callable[..., str]
) -> AsyncIterator[tuple[ValkeyCluster, Toy]]:
    """A cluster of its own, and an owned cell in it."""
    with ValkeyCluster(tmp_path) as cluster:
        toy = Toy(cluster.url, "c0", new_topic("toy", config={"cleanup.policy": "compact"}))
        await toy.cell.open()
        async with running(toy.owner(kafka_bootstrap)):
            await ready(toy)
            yield cluster, toy
        await toy.cell.close()


async def test_a_cell_whose_slot_moves_is_followed_and_healed_there(
    clustered: tuple[ValkeyCluster, Toy],
) -> None:
    cluster, toy = clustered
    for i in range(20):
        await toy.cell.published(await toy.put(f"n{i}", "one", 1))
    meta = toy.cell.key("meta")
    first = cluster.owner(meta)
    target = next(node for node in cluster.nodes if node is not first)
    await asyncio.to_thread(cluster.move, meta, target)
    await written(toy, "new", 1)
    assert [await toy.get(f"n{i}") for i in range(20)] == [("one", 1)] * 20
    await asyncio.to_thread(first.kill)  # what it was the owner of is of no matter
    await written(toy, "new", 2)


async def test_a_node_that_is_gone_is_away_until_it_is_back(
    clustered: tuple[ValkeyCluster, Toy],
) -> None:
    cluster, toy = clustered
    await toy.cell.published(await toy.put("a", "one", 1))
    owner = cluster.owner(toy.cell.key("meta"))
    owner.kill()
    with pytest.raises(Unavailable, match="STORE_UNAVAILABLE"):
        await toy.put("a", "two", 2)
    await asyncio.to_thread(owner.start)  # with its part of the cluster, and no data
    await written(toy, "a", 2)


async def test_nobody_to_ask_is_an_error_and_one_server_needs_no_asking() -> None:
    nodes = Nodes("redis+cluster://:secret@127.0.0.1:1,127.0.0.1:2", "k")
    with pytest.raises(RedisConnectionError):
        await nodes.place()
    assert nodes.clustered
    one = Nodes("redis://:secret@127.0.0.1:1/2", "k")
    assert (one.clustered, one.url) == (False, "redis://:secret@127.0.0.1:1/2")


async def nothing(_connection: object) -> None:
    """Recognises nobody."""


@pytest.mark.parametrize("scheme", ["rediss", "rediss+cluster"])
async def test_a_server_that_is_to_be_met_by_tls_is_not_met_without(
    scheme: str, valkey_url: str
) -> None:
    """The shared server speaks in clear, so nothing is said to it."""
    secure: Any = client(f"{scheme}://{valkey_url.removeprefix('redis://')}", "k", nothing)
    with pytest.raises(RedisError):  # no handshake comes
        await secure.execute_command("PING")
    await secure.aclose()
    clear: Any = client(valkey_url, "k", on_connect)
    assert await clear.execute_command("PING")
    await clear.aclose()


async def on_connect(connection: Any) -> None:
    await connection.on_connect()
