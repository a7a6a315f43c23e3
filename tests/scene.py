"""A running cluster with everybody who talks to it: the stage of end-to-end and fault tests.

Each scene has a tenant and a block of its own, so scenes share one cluster without meeting.
"""

import random
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from axbridge.binding.v1 import binding_pb2, binding_service_pb2_grpc
from axbridge.router.v1 import call_pb2, router_service_pb2
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from deploy.local.clients import Auditor, Platform, Pools, Switch
from deploy.local.cluster import Cluster
from deploy.local.compaction import Record, contents
from deploy.local.waiting import eventually
from services.audit.compare import TopicsUnreadable, compare_with_topics
from services.audit.verify import verify_folder
from services.runtime.status import reason_of

PATIENCE = 60.0  # a deadline, not a wait: for a machine that does three other things
_chance = random.SystemRandom()  # not seeded: scenes of one cluster must not meet
QUICK_EXPIRY = {"BINDING_MINIMUM_LIFE_SECONDS": "1"}


@dataclass
class Scene:
    """One tenant on a cluster: its pools, its platform, the switches and an auditor."""

    cluster: Cluster
    pools: Pools
    platform: Platform
    switches: list[Switch]
    auditor: Auditor
    tenant: str
    block: str
    _mobiles: int = field(default_factory=lambda: _chance.randrange(10**8))
    closing: ExitStack = field(default_factory=ExitStack)

    @property
    def bootstrap(self) -> str:
        """Where the cluster's Kafka is."""
        return self.cluster.brokers.kafka.bootstrap

    def mobile(self) -> str:
        """A mainland mobile number that no other call of this returns."""
        self._mobiles += 1
        return f"+86138{self._mobiles % 10**8:08d}"

    def pool(self, name: str, *, shared: bool = False) -> str:
        """A pool fed by the scene's block."""
        self.pools.create(name, shared=shared)
        self.pools.register(self.block, name)
        return name

    def records(self, topic: str) -> list[Record]:
        """What the topic holds of this tenant or block."""
        marks = self.tenant.encode(), self.block.encode()
        return [
            record
            for record in contents(self.bootstrap, topic)
            if any(mark in (record.key or b"") + (record.value or b"") for mark in marks)
        ]


@contextmanager
def on(cluster: Cluster, tenant: str = "") -> Iterator[Scene]:
    """A scene on a running cluster."""
    tenant = tenant or f"t-{uuid.uuid4().hex[:12]}"
    with ExitStack() as stack:
        yield Scene(
            cluster,
            stack.enter_context(Pools(cluster.addresses["allocator"], tenant)),
            stack.enter_context(Platform(cluster.addresses["binding"], tenant)),
            [stack.enter_context(Switch(address)) for address in cluster.routers],
            stack.enter_context(Auditor(cluster.addresses["audit"])),
            tenant,
            f"700{_chance.randrange(10**8):08d}",
            closing=stack,
        )


@contextmanager
def playing(folder: Path, **options: Any) -> Iterator[Scene]:
    """A scene on a cluster of its own."""
    options.setdefault("environment", QUICK_EXPIRY)
    with Cluster(folder, **options) as cluster, on(cluster) as scene:
        yield scene


def digits(binding: binding_pb2.Binding) -> str:
    """The 700 number that a binding is through."""
    return binding.number.removeprefix("numbers/")


def uuid_of(binding: binding_pb2.Binding) -> str:
    """The binding's part of its name."""
    return binding.name.rsplit("/", 1)[1]


def outcome(answer: router_service_pb2.RouteCallResponse) -> str:
    """The callee's number, or the reason of the refusal."""
    if answer.WhichOneof("decision") == "connect":
        return answer.connect.callee.e164
    name = call_pb2.RefusalReason.Name(answer.refuse.reason)
    return name.removeprefix("REFUSAL_REASON_")


def routes(scene: Scene, caller: str, number: str, wanted: str) -> None:
    """Waits until every router gives this outcome: a view follows a write by milliseconds."""
    for switch in scene.switches:
        eventually(
            lambda switch=switch: outcome(switch.call(caller, number)) == wanted,  # type: ignore[misc]
            PATIENCE,
            what=f"a router's outcome {wanted if wanted.isalpha() else 'connect'}",
        )


def refusal(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    """Code and reason that the rpc is refused with."""
    try:
        call()
    except grpc.RpcError as error:
        return error.code(), reason_of(error) or ""
    return grpc.StatusCode.OK, ""


def retry_after(error: Any) -> float:
    """The seconds of the error's RetryInfo; 0 without one."""
    status = rpc_status.from_call(error)
    for detail in status.details if status else ():
        if detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            info = error_details_pb2.RetryInfo()
            detail.Unpack(info)
            return float(info.retry_delay.ToTimedelta().total_seconds())
    return 0.0


def bare_platform(scene: Scene, process: str = "binding") -> Any:
    """A stub of one binding process whose channel retries nothing: each answer is seen."""
    channel = scene.closing.enter_context(
        grpc.insecure_channel(
            scene.cluster.addresses[process],
            [("grpc.enable_retries", 0), ("grpc.max_reconnect_backoff_ms", 500)],
        )
    )
    return binding_service_pb2_grpc.BindingServiceStub(channel)


def sound(cluster: Cluster) -> None:
    """The log holds every event once, in order, and is what its checkpoint signs."""
    bootstrap = cluster.brokers.kafka.bootstrap

    def problems() -> list[str]:
        try:
            return compare_with_topics(cluster.log, cluster.vkey, bootstrap, patience_seconds=5)
        except TopicsUnreadable as away:  # just restarted
            return [str(away)]

    eventually(lambda: not problems(), PATIENCE, what="a log that agrees with the topics")
    verdict = verify_folder(cluster.log, cluster.vkey)
    assert verdict.ok, str(verdict)
