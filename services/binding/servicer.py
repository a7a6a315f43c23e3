"""The gRPC edge: parse, call, render. No rule about bindings stands here.

Refuses nothing by itself. Invariant: each call waits no longer than its own deadline.
"""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Final

from axbridge.binding.v1 import binding_pb2, binding_service_pb2, binding_service_pb2_grpc

from services.binding import items, translate
from services.binding.batches import Batches
from services.binding.changes import Changes
from services.binding.fields import deadline
from services.binding.handlers import Handlers
from services.runtime.clock import Clock
from services.runtime.flow import flow

# Items of a stream under way: enough to keep allocator, store and Kafka busy at the same time,
# and about 10 MB. Reading stops there, and HTTP/2's flow control stops the caller.
_IN_FLIGHT: Final = 4000
_METHOD: Final = "axbridge.binding.v1.BindingService/"


class BindingServicer(binding_service_pb2_grpc.BindingServiceServicer):
    """Serves axbridge.binding.v1.BindingService."""

    def __init__(
        self, handlers: Handlers, changes: Changes, batches: Batches, clock: Clock
    ) -> None:
        self._handlers = handlers
        self._changes = changes
        self._batches = batches
        self._clock = clock

    async def CreateBinding(
        self, request: binding_service_pb2.CreateBindingRequest, context: Any
    ) -> binding_pb2.Binding:
        until = deadline(context, self._clock)
        return translate.resource(await self._handlers.create(translate.create(request), until))

    async def GetBinding(
        self, request: binding_service_pb2.GetBindingRequest, context: Any
    ) -> binding_pb2.Binding:
        return translate.resource(await self._handlers.get(*translate.name(request.name)))

    async def ListBindings(
        self, request: binding_service_pb2.ListBindingsRequest, context: Any
    ) -> binding_service_pb2.ListBindingsResponse:
        page, token = await self._handlers.list(translate.find(request))
        return binding_service_pb2.ListBindingsResponse(
            bindings=map(translate.resource, page), next_page_token=token
        )

    async def UpdateBinding(
        self, request: binding_service_pb2.UpdateBindingRequest, context: Any
    ) -> binding_pb2.Binding:
        until = deadline(context, self._clock)
        return translate.resource(await self._changes.update(translate.update(request), until))

    async def RenewBinding(
        self, request: binding_service_pb2.RenewBindingRequest, context: Any
    ) -> binding_pb2.Binding:
        until = deadline(context, self._clock)
        return translate.resource(await self._changes.renew(*translate.renew(request), until))

    async def SetTemporaryCallee(
        self, request: binding_service_pb2.SetTemporaryCalleeRequest, context: Any
    ) -> binding_pb2.Binding:
        until = deadline(context, self._clock)
        return translate.resource(await self._changes.name(translate.name_callee(request), until))

    async def UpgradeBinding(
        self, request: binding_service_pb2.UpgradeBindingRequest, context: Any
    ) -> binding_pb2.Binding:
        until = deadline(context, self._clock)
        return translate.resource(await self._changes.upgrade(translate.upgrade(request), until))

    async def ReleaseBinding(
        self, request: binding_service_pb2.ReleaseBindingRequest, context: Any
    ) -> binding_pb2.Binding:
        until = deadline(context, self._clock)
        return translate.resource(await self._changes.release(*translate.release(request), until))

    async def BatchCreateBindings(
        self, request: binding_service_pb2.BatchCreateBindingsRequest, context: Any
    ) -> binding_service_pb2.BatchCreateBindingsResponse:
        outcomes = await self._batches.run(items.creates(request), deadline(context, self._clock))
        results = items.results(request.requests, outcomes, f"{_METHOD}BatchCreateBindings")
        return binding_service_pb2.BatchCreateBindingsResponse(results=results)

    async def BatchUpdateBindings(
        self, request: binding_service_pb2.BatchUpdateBindingsRequest, context: Any
    ) -> binding_service_pb2.BatchUpdateBindingsResponse:
        outcomes = await self._batches.run(items.updates(request), deadline(context, self._clock))
        results = items.results(request.requests, outcomes, f"{_METHOD}BatchUpdateBindings")
        return binding_service_pb2.BatchUpdateBindingsResponse(results=results)

    async def BatchReleaseBindings(
        self, request: binding_service_pb2.BatchReleaseBindingsRequest, context: Any
    ) -> binding_service_pb2.BatchReleaseBindingsResponse:
        outcomes = await self._batches.run(items.releases(request), deadline(context, self._clock))
        results = items.results(request.requests, outcomes, f"{_METHOD}BatchReleaseBindings")
        return binding_service_pb2.BatchReleaseBindingsResponse(results=results)

    async def ReleaseOrder(
        self, request: binding_service_pb2.ReleaseOrderRequest, context: Any
    ) -> binding_service_pb2.ReleaseOrderResponse:
        wish = items.order(request)
        page, token = await self._batches.release_order(wish, deadline(context, self._clock))
        return binding_service_pb2.ReleaseOrderResponse(
            results=[
                items.result(outcome, f"{_METHOD}ReleaseOrder", f"{request.parent}/bindings/{each}")
                for each, outcome in page
            ],
            next_page_token=token,
        )

    async def StreamBindings(
        self,
        request_iterator: AsyncIterator[binding_service_pb2.StreamBindingsRequest],
        context: Any,
    ) -> AsyncIterator[binding_service_pb2.StreamBindingsResponse]:
        until = deadline(context, self._clock)

        async def handle(message: Any) -> binding_service_pb2.StreamBindingsResponse:
            outcomes = await self._batches.run(items.streamed(message), until)
            return items.stream_results(message, outcomes, f"{_METHOD}StreamBindings")

        async with aclosing(flow(request_iterator, items.size, handle, _IN_FLIGHT)) as answers:
            async for answer in answers:
                yield answer
