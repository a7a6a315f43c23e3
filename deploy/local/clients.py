"""A small vocabulary for talking to axbridge: the platform, the switch and the auditor.

What the demo, the replay, the bench and the end-to-end tests say, each in one call. Refuses nothing
by itself: errors are gRPC's, to be read with `services.runtime.status.reason_of`.
"""

import json
import uuid
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Final, Self

import grpc
from axbridge.allocator.v1 import (
    allocator_service_pb2,
    allocator_service_pb2_grpc,
    number_pb2,
)
from axbridge.audit.v1 import audit_service_pb2, audit_service_pb2_grpc, entry_pb2
from axbridge.binding.v1 import (
    binding_pb2,
    binding_service_pb2,
    binding_service_pb2_grpc,
)
from axbridge.router.v1 import call_pb2, router_service_pb2, router_service_pb2_grpc
from axbridge.type.v1 import phone_number_pb2
from google.protobuf import duration_pb2, timestamp_pb2

from deploy.local.places import ROOT

_TIMEOUT: Final = 10.0
CARRIER: Final = "carrier-1"


def channel_options(service: str) -> list[tuple[str, Any]]:
    """The deadlines and retries that stand beside the service's proto."""
    path = ROOT / "protos" / "axbridge" / service / "v1" / f"{service}_grpc_service_config.json"
    return [("grpc.service_config", json.dumps(json.loads(path.read_text())))]


class Client:
    """A channel to one service."""

    def __init__(self, service: str, address: str) -> None:
        self.channel = grpc.insecure_channel(address, channel_options(service))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the channel."""
        self.channel.close()


class Pools(Client):
    """The tenant's pools and their numbers."""

    def __init__(self, address: str, tenant: str) -> None:
        super().__init__("allocator", address)
        self.parent = f"tenants/{tenant}"
        self.stub = allocator_service_pb2_grpc.AllocatorServiceStub(self.channel)

    def create(
        self, pool: str, *, shared: bool = False, cooling: timedelta | None = None
    ) -> number_pb2.Pool:
        """Creates a pool, exclusive unless `shared`."""
        policy = number_pb2.POOL_POLICY_SHARED if shared else number_pb2.POOL_POLICY_EXCLUSIVE
        wanted = number_pb2.Pool(name=f"{self.parent}/pools/{pool}", policy=policy)
        if cooling is not None:
            wanted.cooling.CopyFrom(_duration(cooling))
        request = allocator_service_pb2.CreatePoolRequest(pool=wanted)
        return self.stub.CreatePool(request, timeout=_TIMEOUT, wait_for_ready=True)

    def register(self, block: str, pool: str) -> number_pb2.Block:
        """Feeds a block to a pool."""
        wanted = number_pb2.Block(name=f"blocks/{block}", pool=f"{self.parent}/pools/{pool}")
        request = allocator_service_pb2.RegisterBlockRequest(block=wanted)
        return self.stub.RegisterBlock(request, timeout=_TIMEOUT)

    def statistics(self, pool: str) -> number_pb2.PoolStatistics:
        """Counts the pool's numbers."""
        request = allocator_service_pb2.GetPoolStatisticsRequest(name=f"{self.parent}/pools/{pool}")
        return self.stub.GetPoolStatistics(request, timeout=_TIMEOUT)


def create_request(
    tenant: str,
    pool: str,
    a: str,
    b: str,
    order: str,
    *,
    life: timedelta = timedelta(hours=1),
    request_id: str | None = None,
    direction: "binding_pb2.CallDirection.ValueType" = binding_pb2.CALL_DIRECTION_BOTH,
    max_call_minutes: int = 0,
    customer_data: bytes = b"",
) -> binding_service_pb2.CreateBindingRequest:
    """A request to bind A and B for an order."""
    return binding_service_pb2.CreateBindingRequest(
        parent=f"tenants/{tenant}",
        request_id=request_id or str(uuid.uuid4()),
        pool=f"tenants/{tenant}/pools/{pool}",
        number_a=phone_number_pb2.PhoneNumber(e164=a),
        number_b=phone_number_pb2.PhoneNumber(e164=b),
        order_id=order,
        industry_id="taxi.1",
        expire_time=timestamp(datetime.now(UTC) + life),
        direction=direction,
        max_call_minutes=max_call_minutes,
        customer_data=customer_data,
    )


class Platform(Client):
    """A business platform that binds its users."""

    def __init__(self, address: str, tenant: str) -> None:
        super().__init__("binding", address)
        self.tenant = tenant
        self.stub = binding_service_pb2_grpc.BindingServiceStub(self.channel)

    def create(self, request: binding_service_pb2.CreateBindingRequest) -> binding_pb2.Binding:
        """Binds; the answer comes once Kafka has it."""
        return self.stub.CreateBinding(request, timeout=_TIMEOUT, wait_for_ready=True)

    def bind(self, pool: str, a: str, b: str, order: str, **options: Any) -> binding_pb2.Binding:
        """Binds A and B for an order, for an hour unless `life` says otherwise."""
        return self.create(create_request(self.tenant, pool, a, b, order, **options))

    def get(self, name: str) -> binding_pb2.Binding:
        """The binding as it is."""
        request = binding_service_pb2.GetBindingRequest(name=name)
        return self.stub.GetBinding(request, timeout=_TIMEOUT)

    def list(self, **by: Any) -> list[binding_pb2.Binding]:
        """All bindings by `order_id`, `number` or `party`."""
        found: list[binding_pb2.Binding] = []
        token = ""
        while True:
            request = binding_service_pb2.ListBindingsRequest(
                parent=f"tenants/{self.tenant}", page_token=token, **by
            )
            page = self.stub.ListBindings(request, timeout=_TIMEOUT)
            found += page.bindings
            token = page.next_page_token
            if not token:
                return found

    def update(self, binding: binding_pb2.Binding, life: timedelta) -> binding_pb2.Binding:
        """Sets a new end, `life` from now."""
        request = binding_service_pb2.UpdateBindingRequest(
            name=binding.name,
            request_id=str(uuid.uuid4()),
            version=binding.version,
            expire_time=timestamp(datetime.now(UTC) + life),
        )
        return self.stub.UpdateBinding(request, timeout=_TIMEOUT)

    def release(self, name: str) -> binding_pb2.Binding:
        """Ends the binding."""
        request = binding_service_pb2.ReleaseBindingRequest(name=name)
        return self.stub.ReleaseBinding(request, timeout=_TIMEOUT)


class Switch(Client):
    """A carrier's switch that asks where calls go."""

    def __init__(self, address: str) -> None:
        super().__init__("router", address)
        self.stub = router_service_pb2_grpc.RouterServiceStub(self.channel)

    def call(
        self, caller: str, dialled: str, call_id: str | None = None
    ) -> router_service_pb2.RouteCallResponse:
        """Asks for the route of a call."""
        request = router_service_pb2.RouteCallRequest(
            call_id=call_id or uuid.uuid4().hex,
            carrier=CARRIER,
            caller=caller,
            dialled=dialled,
            trunk="trunk-1",
        )
        return self.stub.RouteCall(request, timeout=_TIMEOUT, wait_for_ready=True)

    def report(
        self,
        call_id: str,
        leg: "call_pb2.CallLeg.ValueType",
        sequence: int,
        kind: "call_pb2.CallEventKind.ValueType",
        at: datetime | None = None,
        *,
        cause: int = 0,
        side: "call_pb2.ReleaseSide.ValueType" = call_pb2.RELEASE_SIDE_UNSPECIFIED,
    ) -> None:
        """Reports what happened to a leg."""
        request = router_service_pb2.ReportCallEventRequest(
            call_id=call_id,
            carrier=CARRIER,
            leg=leg,
            sequence=sequence,
            kind=kind,
            event_time=timestamp(at or datetime.now(UTC)),
            q850_cause=cause,
            release_side=side,
        )
        self.stub.ReportCallEvent(request, timeout=_TIMEOUT)

    def talk(self, call_id: str, seconds: float = 30.0) -> None:
        """Reports a whole answered call that began now and was ended by the caller."""
        begun = datetime.now(UTC)
        callee = call_pb2.CALL_LEG_CALLEE
        steps: tuple[tuple[call_pb2.CallEventKind.ValueType, float, dict[str, Any]], ...] = (
            (call_pb2.CALL_EVENT_KIND_RINGING, 1.0, {}),
            (call_pb2.CALL_EVENT_KIND_ANSWERED, 3.0, {}),
            (
                call_pb2.CALL_EVENT_KIND_ENDED,
                3.0 + seconds,
                {"cause": 16, "side": call_pb2.RELEASE_SIDE_CALLER},
            ),
        )
        for number, (kind, after, ending) in enumerate(steps, 1):
            at = begun + timedelta(seconds=after)
            self.report(call_id, callee, number, kind, at, **ending)


class Auditor(Client):
    """Somebody who reads and checks the log."""

    def __init__(self, address: str) -> None:
        super().__init__("audit", address)
        self.stub = audit_service_pb2_grpc.AuditServiceStub(self.channel)

    def query(self, **by: Any) -> list[entry_pb2.Event]:
        """All events by the filters of QueryEvents."""
        found: list[entry_pb2.Event] = []
        token = ""
        while True:
            request = audit_service_pb2.QueryEventsRequest(page_token=token, **by)
            page = self.stub.QueryEvents(request, timeout=_TIMEOUT)
            found += page.events
            token = page.next_page_token
            if not token:
                return found

    def checkpoint(self) -> audit_service_pb2.GetCheckpointResponse:
        """The published checkpoint."""
        return self.stub.GetCheckpoint(audit_service_pb2.GetCheckpointRequest(), timeout=_TIMEOUT)

    def inclusion(self, event_id: str) -> entry_pb2.InclusionProof:
        """The proof that an event is in the log."""
        request = audit_service_pb2.GetInclusionProofRequest(event_id=event_id)
        return self.stub.GetInclusionProof(request, timeout=_TIMEOUT)


def timestamp(moment: datetime) -> timestamp_pb2.Timestamp:
    """An aware datetime as a Timestamp."""
    made = timestamp_pb2.Timestamp()
    made.FromDatetime(moment)
    return made


def _duration(span: timedelta) -> duration_pb2.Duration:
    made = duration_pb2.Duration()
    made.FromTimedelta(span)
    return made
