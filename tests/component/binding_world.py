"""A real binding service in this process on real brokers, with allocator stood in for."""

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
from axbridge.allocator.v1 import allocator_service_pb2 as allocator_pb2
from axbridge.allocator.v1 import allocator_service_pb2_grpc, number_pb2
from axbridge.binding.v1 import binding_pb2, binding_service_pb2, binding_service_pb2_grpc
from axbridge.type.v1 import phone_number_pb2
from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import SecretStr

from deploy.local.compaction import contents
from deploy.local.kafka import quiet_admin
from services.binding.service import start
from services.binding.settings import BindingSettings
from services.runtime import topics
from services.runtime.errors import NotFound, ResourceExhausted
from services.runtime.keyring import EvidenceKeys
from services.runtime.status import reason_of, status_of, to_status
from tests.factories import unique

TENANT = "tenants/didi"
POOL = f"{TENANT}/pools/city"
A, B, C, D = (f"+8613{n}12345678" for n in (5, 6, 7, 8))
_LETTERS = str.maketrans("0123456789", "ghijklmnop")  # a metric's label shows no long number
TOPICS = (
    topics.BINDING_BINDINGS, topics.BINDING_STATE, topics.BINDING_ROUTES, topics.BINDING_KEYS,
    topics.BINDING_CONSENTS, topics.BINDING_BLACKLISTS, topics.BINDING_DENIALS,
    topics.BINDING_RETENTION,
)  # fmt: skip


class StubAllocator(allocator_service_pb2_grpc.AllocatorServiceServicer):
    """Gives numbers in turn, or what a test tells it to."""

    def __init__(self) -> None:
        self.policy = number_pb2.POOL_POLICY_EXCLUSIVE
        self.cooling_seconds = 60
        self.lease_seconds = 30.0
        self.exhausted = False
        self.refusal = "POOL_EXHAUSTED"
        self.selected: list[Any] = []
        self.away = False
        self.next: list[str] = []
        self.calls: list[int] = []
        self.asked = False
        self.pause_seconds = 0.0
        self.excluded: list[list[str]] = []
        self.returned: list[str] = []
        self._serial = uuid.uuid4().int % 10**8
        self._epoch = int(time.time() * 1000)

    async def LeaseNumbers(self, request: Any, context: Any) -> Any:
        self.asked = True
        await asyncio.sleep(self.pause_seconds)
        if self.away:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "away")
        if not request.parent.endswith("city"):
            status = to_status(NotFound("POOL_NOT_FOUND", pool=request.parent))
            await context.abort_with_status(status)
        self.calls.append(len(request.items))
        self.excluded += [list(item.excluded_numbers) for item in request.items]
        self.selected += [item.selection for item in request.items]
        return allocator_pb2.LeaseNumbersResponse(results=[self._lease() for _ in request.items])

    async def ReturnNumbers(self, request: Any, context: Any) -> Any:
        self.returned += [lease.number for lease in request.leases]
        return allocator_pb2.ReturnNumbersResponse(returned=len(request.leases))

    def _lease(self) -> Any:
        result = allocator_pb2.LeaseResult()
        if self.exhausted:
            result.error.CopyFrom(status_of(ResourceExhausted(self.refusal, pool="city")))
            return result
        self._serial += 1
        self._epoch += 1
        lease = result.lease
        lease.number = self.next.pop(0) if self.next else f"7001{self._serial % 10**11:011d}"
        lease.epoch, lease.policy = self._epoch, self.policy
        lease.expire_time.FromNanoseconds(int((time.time() + self.lease_seconds) * 1e9))
        lease.cooling.seconds = self.cooling_seconds
        return result


class World:
    """The service under test, its neighbours and its client."""

    def __init__(
        self, bootstrap: str, redis_url: str, folder: Path, target: str, minimum: int
    ) -> None:
        self.bootstrap = bootstrap
        self.allocator = StubAllocator()  # type: ignore[abstract]
        public = folder / "evidence"
        if not public.exists():
            EvidenceKeys.generate(public)
        self.settings = BindingSettings(
            kafka_bootstrap=bootstrap,
            redis_url=SecretStr(redis_url),
            allocator_target=target,
            keyring_dir=folder / "keys",
            evidence_public_key=public,
            cell=unique("c")[:24].translate(_LETTERS),
            grace_seconds=1,
            minimum_life_seconds=minimum,
        )
        self.stub: Any = None
        self.channel: Any = None

    def request(self, **fields: Any) -> Any:
        """A good request, with what a test changes of it."""
        given: dict[str, Any] = {
            "parent": TENANT,
            "request_id": str(uuid.uuid4()),
            "pool": POOL,
            "number_a": phone_number_pb2.PhoneNumber(e164=A),
            "number_b": phone_number_pb2.PhoneNumber(e164=B),
            "order_id": "order-1",
            "industry_id": "taxi.1",
            "expire_time": ahead(3600),
            "customer_data": b"opaque",
        } | fields
        return binding_service_pb2.CreateBindingRequest(**given)

    async def create(self, **fields: Any) -> binding_pb2.Binding:
        return await self.stub.CreateBinding(self.request(**fields), timeout=10)  # type: ignore[no-any-return]

    async def get(self, name: str) -> binding_pb2.Binding:
        return await self.stub.GetBinding(  # type: ignore[no-any-return]
            binding_service_pb2.GetBindingRequest(name=name), timeout=5
        )

    async def release(self, name: str, version: int = 0) -> binding_pb2.Binding:
        return await self.stub.ReleaseBinding(  # type: ignore[no-any-return]
            binding_service_pb2.ReleaseBindingRequest(name=name, version=version), timeout=10
        )

    async def update(self, name: str, version: int, seconds: float, request_id: str = "") -> Any:
        return await self.stub.UpdateBinding(
            binding_service_pb2.UpdateBindingRequest(
                name=name,
                request_id=request_id or str(uuid.uuid4()),
                version=version,
                expire_time=ahead(seconds),
            ),
            timeout=10,
        )

    async def list(self, **fields: Any) -> Any:
        return await self.stub.ListBindings(
            binding_service_pb2.ListBindingsRequest(**({"parent": TENANT} | fields)), timeout=5
        )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["World"]:
        """The service and its client, until the block ends."""
        server, port = await start(self.settings)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            self.channel = channel
            self.stub = binding_service_pb2_grpc.BindingServiceStub(channel)
            try:
                await until(server.is_ready)
                yield self
            finally:
                await server.drain()


@contextlib.asynccontextmanager
async def world(
    bootstrap: str, redis_url: str, folder: Path, *, minimum_life_seconds: int = 60
) -> AsyncIterator[World]:
    """A running service with a cell of its own."""
    await asyncio.to_thread(topics.ensure, quiet_admin(bootstrap), 4, 1, TOPICS)
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    made = World(bootstrap, redis_url, folder, f"127.0.0.1:{port}", minimum_life_seconds)
    allocator_service_pb2_grpc.add_AllocatorServiceServicer_to_server(made.allocator, server)
    await server.start()
    try:
        async with made.running():
            yield made
    finally:
        await server.stop(0)


def published(w: World, topic: str) -> list[Any]:
    """What this cell has put on a topic, cell records left out."""
    source = f"/axbridge/binding/{w.settings.cell}".encode()
    return [
        record
        for record in contents(w.bootstrap, topic)
        if ("ce_source", source) in record.headers and not (record.key or b"").startswith(b"cell/")
    ]


async def until(condition: Callable[[], object], seconds: float = 30) -> None:
    """Waits for the condition, or fails."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


async def refusal(call: Any) -> str:
    """The reason that the call is refused with."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return f"{error.code().name} {reason_of(error)}"
    return "OK"


def ahead(seconds: float) -> Timestamp:
    """A moment so far from now, in whole milliseconds."""
    stamp = Timestamp()
    stamp.FromMilliseconds(int((time.time() + seconds) * 1000))
    return stamp
