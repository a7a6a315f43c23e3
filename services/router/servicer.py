"""The gRPC edge in: parse, ask the handler, render. Holds no rule; counts decisions by reason."""

from typing import Any

from axbridge.router.v1 import router_service_pb2, router_service_pb2_grpc

from services.router.domain import Refusal
from services.router.handlers import Router
from services.router.translate import call_from, progress_from, response_from
from services.runtime.metrics import Metrics, Name


class RouterServicer(router_service_pb2_grpc.RouterServiceServicer):
    """axbridge.router.v1.RouterService."""

    def __init__(self, router: Router, metrics: Metrics) -> None:
        self._route, self._report = router.route, router.report
        self._counters: dict[Refusal | None, Any] = {
            refusal: metrics.counter(Name.ROUTE_DECISIONS, reason=refusal.name)
            for refusal in Refusal
        }
        self._counters[None] = metrics.counter(Name.ROUTE_DECISIONS, reason="CONNECTED")

    def RouteCall(
        self, request: router_service_pb2.RouteCallRequest, context: object
    ) -> router_service_pb2.RouteCallResponse:
        decision = self._route(call_from(request))
        self._counters[decision.refusal].inc()
        return response_from(decision)

    def ReportCallEvent(
        self, request: router_service_pb2.ReportCallEventRequest, context: object
    ) -> router_service_pb2.ReportCallEventResponse:
        self._report(progress_from(request))
        return router_service_pb2.ReportCallEventResponse()
