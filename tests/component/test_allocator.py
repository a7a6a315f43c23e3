"""allocator as it runs, on a real Kafka and a real Valkey; binding is played by the test."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import redis
from axbridge.allocator.v1 import allocator_service_pb2 as pb
from axbridge.allocator.v1 import allocator_service_pb2_grpc as pb_grpc
from axbridge.allocator.v1 import events_pb2, number_pb2
from axbridge.binding.v1 import binding_pb2
from axbridge.binding.v1 import events_pb2 as binding_events_pb2
from confluent_kafka import Producer
from google.protobuf.duration_pb2 import Duration

from deploy.local.compaction import contents
from deploy.local.kafka import quiet_admin
from deploy.local.valkey import Valkey
from services.allocator.messages import timestamp
from services.allocator.service import start
from services.allocator.settings import AllocatorSettings
from services.runtime import topics
from services.runtime.settings import load
from services.runtime.status import reason_of
from tests.factories import unique

# A cell's name labels metrics, which refuse what looks like a phone number.
LETTERS = str.maketrans("0123456789", "ghijklmnop")
FREE, LEASED, BOUND, COOLING, LOCKED = range(1, 6)  # NumberState
A, B, C = (bytes([n]) * 16 for n in range(1, 4))
USED = (topics.ALLOCATOR_NUMBERS, topics.ALLOCATOR_STATE, topics.BINDING_ROUTES)


async def eventually(check: Callable[[], Awaitable[bool]], seconds: float = 20) -> None:
    """Waits until the check holds; a call that is refused meanwhile counts as not yet."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if await check():
                return
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
        assert time.monotonic() < deadline, "not within the time"
        await asyncio.sleep(0.05)


class Client:
    """The vocabulary of the scenarios: one tenant, its pools, and the routes binding publishes."""

    def __init__(self, stub: Any, bootstrap: str) -> None:
        self.stub = stub
        self.bootstrap = bootstrap
        self.tenant = f"t-{random.randrange(16**8):08x}"
        self.block = f"700{random.randrange(10**8):08d}"
        self.producer = Producer({"bootstrap.servers": bootstrap, "acks": "all"})
        counts = topics.partition_counts(quiet_admin(bootstrap), USED)
        self.partitions = counts[topics.BINDING_ROUTES.name]

    @property
    def pool(self) -> str:
        return f"tenants/{self.tenant}/pools/city"

    async def make_pool(self, policy: int, cooling_seconds: int = 2) -> None:
        cooling = Duration(seconds=cooling_seconds)
        pool = number_pb2.Pool(name=self.pool, policy=policy, cooling=cooling)  # type: ignore[arg-type]
        await self.stub.CreatePool(pb.CreatePoolRequest(pool=pool))
        block = number_pb2.Block(name=f"blocks/{self.block}", pool=self.pool)
        await self.stub.RegisterBlock(pb.RegisterBlockRequest(block=block))

    async def lease(self, *tags: bytes, count: int = 1, seconds: int = 30) -> list[Any]:
        request = pb.LeaseNumbersRequest(
            parent=self.pool,
            items=[pb.LeaseItem(party_tags=tags)] * count,
            duration=Duration(seconds=seconds),
        )
        return list((await self.stub.LeaseNumbers(request)).results)

    async def lease_one(self, *tags: bytes, seconds: int = 30) -> number_pb2.Lease:
        lease: number_pb2.Lease = (await self.lease(*tags, seconds=seconds))[0].lease
        return lease

    async def number(self, digits: str) -> number_pb2.Number:
        request = pb.GetNumberRequest(name=f"numbers/{digits}")
        number: number_pb2.Number = await self.stub.GetNumber(request)
        return number

    async def in_state(self, digits: str, state: int) -> None:
        async def check() -> bool:
            return (await self.number(digits)).state == state

        await eventually(check)

    async def statistics(self) -> number_pb2.PoolStatistics:
        request = pb.GetPoolStatisticsRequest(name=self.pool)
        found: number_pb2.PoolStatistics = await self.stub.GetPoolStatistics(request)
        return found

    def publish(self, lease: number_pb2.Lease, version: int, rest: float | None = None) -> None:
        """What binding would: the route of binding `b1` on the number; released if it rests."""
        route = binding_events_pb2.Route(
            tenant=self.tenant,
            binding="b1",
            number=lease.number,
            version=version,
            state=binding_pb2.BINDING_STATE_ACTIVE,
            tag_a=A,
            tag_b=B,
            lease_epoch=lease.epoch,
        )
        if rest is not None:
            route.state = binding_pb2.BINDING_STATE_RELEASED
            route.cool_until.CopyFrom(timestamp(int((time.time() + rest) * 1000)))
        self.producer.produce(
            topics.BINDING_ROUTES.name,
            route.SerializeToString(),
            f"{lease.number}/b1",
            topics.partition_of(lease.number, self.partitions),
        )
        self.producer.flush(10)

    def events(self, message: type[Any], field: str) -> list[Any]:
        """Events of a kind that mention this test's tenant or block."""
        found = []
        for record in contents(self.bootstrap, topics.ALLOCATOR_NUMBERS.name):
            kind = dict(record.headers)["ce_type"]
            if kind == f"axbridge.allocator.v1.{message.__name__}".encode():
                event = message.FromString(record.value)
                if self.tenant in str(event):
                    found.append(getattr(event, field))
        return found


@pytest.fixture
async def valkey(tmp_path: Path) -> AsyncIterator[Valkey]:
    """A server of its own, since it is flushed."""
    with Valkey(tmp_path / "valkey") as own:
        yield own


@pytest.fixture
async def client(
    kafka_bootstrap: str, valkey: Valkey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Client]:
    topics.ensure(quiet_admin(kafka_bootstrap), partitions=4, topics=USED)
    for name, value in {
        "REDIS_URL": valkey.url,
        "KAFKA_BOOTSTRAP": kafka_bootstrap,
        "KEYRING_DIR": str(tmp_path / "keys"),
        "CELL": unique("c")[:32].translate(LETTERS),
        "GRACE_SECONDS": "0.2",
    }.items():
        monkeypatch.setenv(f"ALLOCATOR_{name}", value)
    server, port = await start(load(AllocatorSettings))
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = pb_grpc.AllocatorServiceStub(channel)
            made = Client(stub, kafka_bootstrap)

            async def ready() -> bool:
                return server.is_ready()

            await eventually(ready)
            yield made
    finally:
        await server.drain()


async def test_life_of_a_number(client: Client) -> None:
    await client.make_pool(number_pb2.POOL_POLICY_EXCLUSIVE)
    lease = await client.lease_one()
    assert lease.number.startswith(client.block)
    assert (lease.policy, lease.cooling.seconds) == (number_pb2.POOL_POLICY_EXCLUSIVE, 2)
    client.publish(lease, 1)
    await client.in_state(lease.number, BOUND)
    client.publish(lease, 2, rest=2)
    await client.in_state(lease.number, COOLING)
    assert (await client.number(lease.number)).cool_until.seconds > time.time()
    await client.in_state(lease.number, FREE)
    other = await client.lease_one()
    returned = await client.stub.ReturnNumbers(pb.ReturnNumbersRequest(leases=[other, other]))
    assert returned.returned == 1
    found = await client.statistics()
    assert (found.total, found.free) == (10_000, 10_000)
    assert len(client.events(events_pb2.PoolCreated, "pool")) == 1
    assert [b.name for b in client.events(events_pb2.BlockRegistered, "block")] == [
        f"blocks/{client.block}"
    ]
    leased = [lease for leases in client.events(events_pb2.NumbersLeased, "leases")
              for lease in leases]  # fmt: skip
    assert leased == [lease, other]


async def test_a_lease_that_nobody_confirms_cools_and_a_late_binding_takes_it(
    client: Client,
) -> None:
    await client.make_pool(number_pb2.POOL_POLICY_EXCLUSIVE, cooling_seconds=3600)
    lease, kept = await client.lease_one(seconds=1), await client.lease_one(seconds=1)
    client.publish(kept, 1)
    await client.in_state(lease.number, COOLING)
    assert (await client.number(kept.number)).state == BOUND
    client.publish(lease, 1)
    await client.in_state(lease.number, BOUND)
    changes = client.events(events_pb2.NumberChanged, "change")
    assert changes == [events_pb2.NUMBER_CHANGE_LEASE_RAN_OUT]


async def test_exhausted_pool_and_locks(client: Client) -> None:
    await client.make_pool(number_pb2.POOL_POLICY_EXCLUSIVE)
    first = await client.lease_one()
    name = f"numbers/{first.number}"
    locked = await client.stub.LockNumber(pb.LockNumberRequest(name=name, reason="abuse"))
    assert locked.state == LOCKED
    await client.stub.ReturnNumbers(pb.ReturnNumbersRequest(leases=[first]))
    numbers = set()
    for _ in range(50):
        numbers |= {r.lease.number for r in await client.lease(count=200) if r.HasField("lease")}
    assert len(numbers) == 9_999
    assert first.number not in numbers
    refused = (await client.lease())[0]
    assert refused.error.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
    unlocked = await client.stub.UnlockNumber(pb.UnlockNumberRequest(name=name, reason="over"))
    assert (unlocked.state, unlocked.version > locked.version) == (FREE, True)
    assert (await client.lease_one()).number == first.number


NOT_FOUND, INVALID = "NOT_FOUND", "INVALID_ARGUMENT"
REFUSALS: list[tuple[Any, str, str]] = [
    (pb.GetPoolRequest(name="tenants/t/pools/none"), NOT_FOUND, "POOL_NOT_FOUND"),
    (pb.GetPoolRequest(name="tenants/T/pools/x"), INVALID, "INVALID_FIELD"),
    (pb.GetPoolRequest(name="tenants/t/pools"), INVALID, "INVALID_FIELD"),
    (pb.GetNumberRequest(name="numbers/700000000000000"), NOT_FOUND, "NUMBER_NOT_FOUND"),
    (pb.GetNumberRequest(name="numbers/13812345678"), INVALID, "NUMBER_INVALID"),
    (pb.GetNumberRequest(name="number/700000000000000"), INVALID, "NUMBER_INVALID"),
    (pb.RegisterBlockRequest(), INVALID, "BLOCK_INVALID"),
    (
        pb.RegisterBlockRequest(block=number_pb2.Block(name="blocks/70100000000")),
        INVALID,
        "BLOCK_INVALID",
    ),
    (
        pb.RegisterBlockRequest(
            block=number_pb2.Block(name="blocks/70012345678", pool="tenants/t/pools/none")
        ),
        NOT_FOUND,
        "POOL_NOT_FOUND",
    ),
    (
        pb.CreatePoolRequest(pool=number_pb2.Pool(name="tenants/t/pools/x")),
        INVALID,
        "INVALID_FIELD",
    ),
    (
        pb.CreatePoolRequest(
            pool=number_pb2.Pool(
                name="tenants/t/pools/x",
                policy=number_pb2.POOL_POLICY_SHARED,
                cooling=Duration(seconds=0),
            )
        ),
        INVALID,
        "INVALID_FIELD",
    ),
    (
        pb.LeaseNumbersRequest(parent="tenants/t/pools/none", items=[pb.LeaseItem()]),
        NOT_FOUND,
        "POOL_NOT_FOUND",
    ),
    (pb.LeaseNumbersRequest(parent="tenants/t/pools/none"), INVALID, "INVALID_FIELD"),
    (
        pb.LeaseNumbersRequest(
            parent="tenants/t/pools/none", items=[pb.LeaseItem(party_tags=[b"short"])]
        ),
        INVALID,
        "INVALID_FIELD",
    ),
    (pb.ReturnNumbersRequest(), INVALID, "INVALID_FIELD"),
    (
        pb.ReturnNumbersRequest(leases=[number_pb2.Lease(number="13812345678", epoch=1)]),
        INVALID,
        "NUMBER_INVALID",
    ),
    (pb.LockNumberRequest(name="numbers/700000000000000"), INVALID, "INVALID_FIELD"),
    (
        pb.UnlockNumberRequest(name="numbers/700000000000000", reason="x"),
        NOT_FOUND,
        "NUMBER_NOT_FOUND",
    ),
    (
        pb.GetPoolStatisticsRequest(name="tenants/t/pools/none"),
        NOT_FOUND,
        "POOL_NOT_FOUND",
    ),
]


async def test_every_refusal_has_its_reason(client: Client) -> None:
    for request, code, reason in REFUSALS:
        method = type(request).__name__.removesuffix("Request")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await getattr(client.stub, method)(request)
        assert (caught.value.code().name, reason_of(caught.value)) == (code, reason), request


async def test_pools_and_blocks_are_what_they_were(client: Client) -> None:
    await client.make_pool(number_pb2.POOL_POLICY_SHARED)
    await client.make_pool(number_pb2.POOL_POLICY_SHARED)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.make_pool(number_pb2.POOL_POLICY_EXCLUSIVE)
    assert reason_of(caught.value) == "POOL_EXISTS"
    other = f"tenants/{client.tenant}/pools/other"
    pool = number_pb2.Pool(name=other, policy=number_pb2.POOL_POLICY_SHARED)
    assert (await client.stub.CreatePool(pb.CreatePoolRequest(pool=pool))).cooling.seconds == 86400
    block = number_pb2.Block(name=f"blocks/{client.block}", pool=other)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.stub.RegisterBlock(pb.RegisterBlockRequest(block=block))
    assert reason_of(caught.value) == "BLOCK_TAKEN"


async def test_a_flushed_store_is_rebuilt(client: Client, valkey: Valkey) -> None:
    """Afterwards: bound is bound, cooling cools, locked is locked, a lease of unknown end cools,
    epochs go on growing, and no number is given twice."""
    await client.make_pool(number_pb2.POOL_POLICY_EXCLUSIVE, cooling_seconds=3600)
    bound, cooling, locked, lost = [await client.lease_one() for _ in range(4)]
    client.publish(bound, 1)
    client.publish(cooling, 1)
    client.publish(cooling, 2, rest=3600)
    await client.in_state(bound.number, BOUND)
    await client.in_state(cooling.number, COOLING)
    name = f"numbers/{locked.number}"
    before = await client.stub.LockNumber(pb.LockNumberRequest(name=name, reason="abuse"))
    # what LeaseNumbers published is in Kafka too, since the lock came later in the outbox
    with redis.Redis.from_url(valkey.url) as server:
        server.flushall()
    await client.in_state(bound.number, BOUND)
    assert (await client.number(cooling.number)).state == COOLING
    assert (await client.number(lost.number)).state == COOLING
    assert (await client.number(locked.number)).state == LOCKED
    found = await client.statistics()
    assert (found.total, found.bound, found.cooling, found.locked) == (10_000, 1, 2, 1)
    after = [result.lease for result in await client.lease(count=100)]
    assert min(lease.epoch for lease in after) > max(lost.epoch, before.version)
    assert not {lease.number for lease in after} & {
        lease.number for lease in (bound, cooling, locked, lost)
    }
    client.publish(bound, 2, rest=0.5)
    await client.in_state(bound.number, FREE)
    assert (await client.number(cooling.number)).pairs == 0


async def test_shared_numbers_and_their_parties(client: Client) -> None:
    await client.make_pool(number_pb2.POOL_POLICY_SHARED)
    lease = await client.lease_one(A, B)
    client.publish(lease, 1)
    await client.in_state(lease.number, BOUND)
    assert (await client.lease_one(A, C)).number != lease.number
    assert (await client.lease_one(C)).number == lease.number
    client.publish(lease, 2, rest=3)
    await client.in_state(lease.number, LEASED)
    assert (await client.lease_one(A)).number != lease.number
