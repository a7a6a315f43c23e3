"""`rebuild` and `check` of allocator, as processes on real brokers."""

import asyncio
from pathlib import Path

import grpc
import pytest
from axbridge.allocator.v1 import allocator_service_pb2 as pb
from axbridge.allocator.v1 import allocator_service_pb2_grpc as pb_grpc
from axbridge.allocator.v1 import number_pb2
from pydantic import SecretStr

from deploy.local.kafka import quiet_admin
from services.allocator.maintenance import comparable
from services.allocator.service import cell_of, start
from services.allocator.settings import AllocatorSettings
from services.runtime import topics
from services.runtime.maintenance import drop
from tests.commands import run_command
from tests.component.test_allocator import LETTERS, USED, Client, eventually
from tests.factories import unique


@pytest.mark.timeout(180)
async def test_an_empty_store_is_rebuilt_and_checked(
    kafka_bootstrap: str, valkey_url: str, tmp_path: Path
) -> None:
    await asyncio.to_thread(topics.ensure, quiet_admin(kafka_bootstrap), 4, 1, USED)
    settings = AllocatorSettings(
        redis_url=SecretStr(valkey_url), kafka_bootstrap=kafka_bootstrap,
        keyring_dir=tmp_path / "keys", cell=unique("c")[:24].translate(LETTERS),
        grace_seconds=0.2,
    )  # fmt: skip
    server, port = await start(settings)
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            client = Client(pb_grpc.AllocatorServiceStub(channel), kafka_bootstrap)

            async def ready() -> bool:
                return server.is_ready()

            await eventually(ready)
            await client.make_pool(number_pb2.POOL_POLICY_SHARED)
            leases = [await client.lease_one(bytes([n]) * 16) for n in range(5)]
            client.publish(leases[0], 1)

            async def bound() -> bool:
                return (await client.number(leases[0].number)).pairs == 1

            await eventually(bound)
            name = f"numbers/{leases[1].number}"
            await client.stub.LockNumber(pb.LockNumberRequest(name=name, reason="look at it"))
            assert await run_command("allocator", "check", settings) == (0, {
                "cell": settings.cell, "same": True, "differences": 0, "first": {}, "keys": 5,
            })  # fmt: skip
    finally:
        await server.drain()
    cell = cell_of(settings)
    await drop(cell)
    assert (await run_command("allocator", "check", settings))[0] == 1
    status, said = await run_command("allocator", "rebuild", settings)
    assert status == 0
    assert said["records"]["allocator.state.v1"] >= 3
    assert (await run_command("allocator", "check", settings))[0] == 0
    await cell.redis.hset(cell.key("blocks", f"{client.tenant}/city"), client.block, 7)
    status, said = await run_command("allocator", "check", settings)
    assert (status, list(said["first"])) == (1, [f"blocks:{client.tenant}/city"])
    await cell.close()


def test_what_leases_do_is_not_compared() -> None:
    number = {b"v": b"9", b"pairs": b"1", b"leases": b"2", b"e/7": b"x", b"b/1": b"y"}
    assert comparable("number:7", number) == {b"pairs": b"1", b"b/1": b"y"}
    assert comparable("number:7", {b"v": b"9", b"pairs": b"0", b"leases": b"1"}) is None
    assert comparable("resting:t/p", {b"7": 1.0}) is None
    assert comparable("counter", b"9") is None
    assert comparable("pool:t/p", {b"total": b"10000", b"leased": b"1"}) == {b"total": b"10000"}
    assert comparable("block:7", {b"record": b"r", b"version": b"9"}) == {b"record": b"r"}
