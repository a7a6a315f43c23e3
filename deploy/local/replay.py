"""Replays a file of trips through a local cluster, time compressed, and says what happened.

Every order is bound, called and released in its own order of time; what a router answers is
compared with what the order's life demands. Invariant: an answer that is still wrong a second
after the platform's own answer is counted as wrong, never retried away.
"""

import asyncio
import contextlib
import random
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import grpc
from axbridge.binding.v1 import binding_pb2, binding_service_pb2, binding_service_pb2_grpc
from axbridge.router.v1 import call_pb2, router_service_pb2, router_service_pb2_grpc

from deploy.local.clients import CARRIER, channel_options, create_request, timestamp
from deploy.local.trips import Order, PlannedCall
from services.runtime.status import reason_of

_PATIENCE_SECONDS: Final = 1.0
_ASK_SECONDS: Final = 0.002  # between two questions: the resolution of what is measured
_PROBE_SHARE: Final = 0.1  # of orders whose propagation is measured at every router
_LIVE: Final = 2000  # orders under way at once; beyond it the replay falls behind its clock

_NOBODY: Final = call_pb2.RELEASE_SIDE_UNSPECIFIED

Until = Callable[[datetime], Awaitable[None]]


@dataclass
class Tally:
    """What happened, for the report."""

    orders: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    decisions: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    create_ms: list[float] = field(default_factory=list)
    release_ms: list[float] = field(default_factory=list)
    route_ms: list[float] = field(default_factory=list)
    routable_ms: list[float] = field(default_factory=list)  # create answered → all routers connect
    refused_ms: list[float] = field(default_factory=list)  # release answered → all routers refuse
    seconds: float = 0.0


class Replay:
    """One run over the orders, made in its loop; `speed` is file seconds per second."""

    def __init__(
        self,
        binding: str,
        routers: Sequence[str],
        tenant: str,
        pool: str,
        *,
        speed: float,
        progress: Callable[[], None] = lambda: None,
    ) -> None:
        self._tenant, self._pool, self._speed, self._progress = tenant, pool, speed, progress
        self._channels = [
            grpc.aio.insecure_channel(address, channel_options(service))
            for service, address in (("binding", binding), *(("router", r) for r in routers))
        ]
        self._platform = binding_service_pb2_grpc.BindingServiceStub(self._channels[0])
        self._switches = [
            router_service_pb2_grpc.RouterServiceStub(channel) for channel in self._channels[1:]
        ]
        self._places = asyncio.Semaphore(_LIVE)
        self.tally = Tally()

    async def one_by_one(self, orders: Sequence[Order]) -> Tally:
        """Binds and releases each order with nothing else going on, so that how long a change
        takes to every router is not how long it queues."""
        async with self._channels_open():
            for order in orders:
                binding, answered = await self._bind(order)
                number = binding.number.removeprefix("numbers/")
                self.tally.routable_ms.append(await self._propagated(order, number, answered, True))
                released_at = await self._release(binding)
                self.tally.refused_ms.append(
                    await self._propagated(order, number, released_at, False)
                )
        return self.tally

    async def run(self, orders: Sequence[Order]) -> Tally:
        """Replays all orders; an order that fails is counted with its reason."""
        begun = time.monotonic()
        first = orders[0].bind_at

        async def until(moment: datetime) -> None:
            due = begun + (moment - first).total_seconds() / self._speed
            await asyncio.sleep(max(0.0, due - time.monotonic()))

        async with self._channels_open(), asyncio.TaskGroup() as group:
            for order in orders:
                await until(order.bind_at)
                await self._places.acquire()
                group.create_task(self._live(order, until))
        self.tally.seconds = time.monotonic() - begun
        return self.tally

    @contextlib.asynccontextmanager
    async def _channels_open(self) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            for channel in self._channels:
                await stack.enter_async_context(channel)
            yield

    async def _live(self, order: Order, until: Until) -> None:
        try:
            await self._life(order, until)
            self.tally.orders += 1
        except grpc.aio.AioRpcError as error:
            self.tally.failed[reason_of(error) or error.code().name] += 1
        finally:
            self._places.release()
            self._progress()

    async def _life(self, order: Order, until: Until) -> None:
        binding, answered = await self._bind(order)
        number = binding.number.removeprefix("numbers/")
        probed = random.Random(order.number).random() < _PROBE_SHARE
        if probed:
            self.tally.routable_ms.append(await self._propagated(order, number, answered, True))
        for call in order.calls:
            if not call.late:
                await until(call.at)
                await self._place(order, call, number, answered)
        await until(order.release_at)
        released_at = await self._release(binding)
        if probed:
            self.tally.refused_ms.append(await self._propagated(order, number, released_at, False))
        for call in order.calls:
            if call.late:
                await until(call.at)
                await self._place(order, call, number, released_at)

    async def _bind(self, order: Order) -> tuple[binding_pb2.Binding, float]:
        """The binding, and when the answer came."""
        request = create_request(
            self._tenant,
            self._pool,
            order.rider,
            order.driver,
            f"trip-{order.number}",
            life=timedelta(days=1),
        )
        begun = time.perf_counter()
        binding = await self._platform.CreateBinding(request, timeout=30, wait_for_ready=True)
        answered = time.perf_counter()
        self.tally.create_ms.append((answered - begun) * 1000)
        return binding, answered

    async def _release(self, binding: binding_pb2.Binding) -> float:
        request = binding_service_pb2.ReleaseBindingRequest(name=binding.name)
        begun = time.perf_counter()
        await self._platform.ReleaseBinding(request, timeout=30)
        answered = time.perf_counter()
        self.tally.release_ms.append((answered - begun) * 1000)
        return answered

    async def _place(self, order: Order, call: PlannedCall, number: str, since: float) -> None:
        """Places a call at one router; the view may lag behind the answer, but not for long."""
        caller, callee = order.rider, order.driver
        if not call.by_rider:
            caller, callee = callee, caller
        switch = self._switches[(order.number + call.late) % len(self._switches)]
        while True:
            call_id = uuid.uuid4().hex
            begun = time.perf_counter()
            answer = await self._route(switch, caller, number, call_id)
            self.tally.route_ms.append((time.perf_counter() - begun) * 1000)
            connected = answer.WhichOneof("decision") == "connect"
            right = connected != call.late and (
                not connected or answer.connect.callee.e164 == callee
            )
            if right or time.perf_counter() - since > _PATIENCE_SECONDS:
                break
            self.tally.decisions["(asked again while the view caught up)"] += 1
            await asyncio.sleep(_ASK_SECONDS)
        kind = "connected" if connected else call_pb2.RefusalReason.Name(answer.refuse.reason)
        self.tally.decisions[kind.removeprefix("REFUSAL_REASON_").lower()] += 1
        if not right:
            self.tally.wrong.append(f"order {order.number}: late={call.late}, answered {kind}")
        if connected:
            await self._talk(switch, call_id, call.talk_seconds)

    async def _propagated(self, order: Order, number: str, since: float, connects: bool) -> float:
        """Milliseconds from `since` until every router connects (or refuses) the rider."""

        async def settled(switch: "router_service_pb2_grpc.RouterServiceAsyncStub") -> None:
            while time.perf_counter() - since < _PATIENCE_SECONDS:
                answer = await self._route(switch, order.rider, number, uuid.uuid4().hex)
                if (answer.WhichOneof("decision") == "connect") == connects:
                    return
                await asyncio.sleep(_ASK_SECONDS)

        await asyncio.gather(*(settled(switch) for switch in self._switches))
        return (time.perf_counter() - since) * 1000

    async def _route(
        self,
        switch: "router_service_pb2_grpc.RouterServiceAsyncStub",
        caller: str,
        number: str,
        call_id: str,
    ) -> router_service_pb2.RouteCallResponse:
        request = router_service_pb2.RouteCallRequest(
            call_id=call_id, carrier=CARRIER, caller=caller, dialled=number, trunk="replay"
        )
        return await switch.RouteCall(request, timeout=10, wait_for_ready=True)

    async def _talk(
        self,
        switch: "router_service_pb2_grpc.RouterServiceAsyncStub",
        call_id: str,
        seconds: float,
    ) -> None:
        begun = datetime.now(UTC)
        steps = (
            (call_pb2.CALL_EVENT_KIND_RINGING, 1.0),
            (call_pb2.CALL_EVENT_KIND_ANSWERED, 4.0),
            (call_pb2.CALL_EVENT_KIND_ENDED, 4.0 + seconds),
        )
        for sequence, (kind, after) in enumerate(steps, 1):
            ended = kind == call_pb2.CALL_EVENT_KIND_ENDED
            request = router_service_pb2.ReportCallEventRequest(
                call_id=call_id,
                carrier=CARRIER,
                leg=call_pb2.CALL_LEG_CALLEE,
                sequence=sequence,
                kind=kind,
                event_time=timestamp(begun + timedelta(seconds=after)),
                q850_cause=16 if ended else 0,
                release_side=call_pb2.RELEASE_SIDE_CALLER if ended else _NOBODY,
            )
            await switch.ReportCallEvent(request, timeout=10)


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile; nan of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")
