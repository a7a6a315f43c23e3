"""The binding service when a broker goes: nothing acknowledged is missing or doubled."""

import asyncio
import uuid
from pathlib import Path

import grpc
import pytest
import redis.asyncio as aioredis
from axbridge.binding.v1 import binding_pb2

from deploy.local.compaction import contents
from deploy.local.kafka import Kafka
from deploy.local.valkey import Valkey
from deploy.local.valkeycluster import ValkeyCluster
from services.runtime.status import reason_of
from tests.component.binding_world import World, refusal, world

_AWAY = ("STORE_HEALING", "STORE_UNAVAILABLE", "LOG_UNAVAILABLE")
RELEASED = binding_pb2.BINDING_STATE_RELEASED


async def retried(w: World, request: object) -> binding_pb2.Binding:
    """The binding, however often the service says that it is away."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await w.stub.CreateBinding(request, timeout=5)  # type: ignore[no-any-return]
            except grpc.aio.AioRpcError as error:
                if reason_of(error) not in _AWAY:
                    raise
                await asyncio.sleep(0.05)


@pytest.mark.timeout(180)
async def test_kafka_away_a_create_is_answered_once_after_its_return(
    valkey_url: str, tmp_path: Path
) -> None:
    kafka = Kafka(tmp_path / "kafka").start()
    try:
        async with world(kafka.bootstrap, valkey_url, tmp_path) as w:
            before = await w.create()
            await asyncio.to_thread(kafka.stop)
            request = w.request(request_id=str(uuid.uuid4()))
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await w.stub.CreateBinding(request, timeout=2)
            assert reason_of(failed.value) == "LOG_UNAVAILABLE"
            assert "retryinfo" in str(failed.value.trailing_metadata()).lower()
            assert await w.get(before.name) == before
            await asyncio.to_thread(kafka.start)
            made = await retried(w, request)
            assert made == await retried(w, request)
            events = [
                r for r in contents(w.bootstrap, "binding.bindings.v1")
                if made.name.rsplit("/", 1)[1].encode() in (r.key or b"")
            ]  # fmt: skip
            assert len({dict(r.headers)["ce_id"] for r in events}) == 1
    finally:
        kafka.stop()


@pytest.mark.timeout(180)
@pytest.mark.parametrize("kind", [Valkey, ValkeyCluster])
async def test_a_flushed_store_misses_nothing_acknowledged(
    kafka_bootstrap: str, tmp_path: Path, kind: type[Valkey | ValkeyCluster]
) -> None:
    with kind(tmp_path / "valkey") as valkey:
        async with world(kafka_bootstrap, valkey.url, tmp_path) as w:
            requests = [w.request(order_id=f"order-{i}") for i in range(150)]
            early = [await retried(w, request) for request in requests[:20]]
            ended = await w.release(early[0].name)
            longer = await w.update(early[1].name, 1, 5 * 86400)
            writing = [asyncio.create_task(retried(w, each)) for each in requests[20:]]
            await asyncio.sleep(0.05)
            for node in [valkey] if isinstance(valkey, Valkey) else valkey.nodes:
                async with aioredis.Redis.from_url(node.url) as client:
                    await client.flushall()
            made = [*early, *await asyncio.gather(*writing)]
            assert await w.get(early[0].name) == ended
            assert await w.get(early[1].name) == longer
            for binding in made[2:]:
                assert await w.get(binding.name) == binding
            # Request ids, limits and indexes are what they were.
            assert await retried(w, requests[5]) == made[5]
            w.allocator.next = [made[7].number.split("/")[1], made[0].number.split("/")[1]]
            fresh = await w.create()
            assert fresh.number not in (made[7].number, made[0].number)
            assert [b.name for b in (await w.list(order_id="order-9")).bindings] == [made[9].name]
            assert (await w.release(made[9].name)).state == RELEASED
            assert await refusal(w.update(made[0].name, 2, 7200)) == (
                "FAILED_PRECONDITION BINDING_ENDED"
            )
            assert (await w.update(made[8].name, 1, 9000)).version == 2


@pytest.mark.timeout(180)
async def test_a_killed_store_says_so_and_comes_back(kafka_bootstrap: str, tmp_path: Path) -> None:
    valkey = Valkey(tmp_path / "valkey").start()
    try:
        async with world(kafka_bootstrap, valkey.url, tmp_path) as w:
            made = await w.create()
            valkey.kill()
            assert await refusal(w.create()) == "UNAVAILABLE STORE_UNAVAILABLE"
            assert await refusal(w.get(made.name)) == "UNAVAILABLE STORE_UNAVAILABLE"
            await asyncio.to_thread(valkey.start)
            await retried(w, w.request())
            assert await w.get(made.name) == made
    finally:
        valkey.stop()
