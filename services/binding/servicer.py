"""The gRPC edge: parse, call, render. No rule about bindings stands here.

Refuses nothing by itself. Invariant: each call waits no longer than its own deadline.
"""

from typing import Any

from axbridge.binding.v1 import binding_pb2, binding_service_pb2, binding_service_pb2_grpc

from services.binding import translate
from services.binding.handlers import Handlers
from services.runtime.clock import Clock


class BindingServicer(binding_service_pb2_grpc.BindingServiceServicer):
    """Serves axbridge.binding.v1.BindingService."""

    def __init__(self, handlers: Handlers, clock: Clock) -> None:
        self._handlers = handlers
        self._clock = clock

    async def CreateBinding(
        self, request: binding_service_pb2.CreateBindingRequest, context: Any
    ) -> binding_pb2.Binding:
        deadline = self._deadline(context)
        return translate.resource(await self._handlers.create(translate.create(request), deadline))

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
        deadline = self._deadline(context)
        return translate.resource(await self._handlers.update(translate.update(request), deadline))

    async def RenewBinding(
        self, request: binding_service_pb2.RenewBindingRequest, context: Any
    ) -> binding_pb2.Binding:
        deadline = self._deadline(context)
        return translate.resource(await self._handlers.renew(*translate.renew(request), deadline))

    async def ReleaseBinding(
        self, request: binding_service_pb2.ReleaseBindingRequest, context: Any
    ) -> binding_pb2.Binding:
        deadline = self._deadline(context)
        return translate.resource(
            await self._handlers.release(*translate.release(request), deadline)
        )

    def _deadline(self, context: Any) -> float:
        """On the monotonic clock; far away where the caller named none."""
        remaining = context.time_remaining()
        return self._clock.monotonic() + (3600.0 if remaining is None else remaining)
