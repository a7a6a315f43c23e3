"""The gRPC edge in: parse, ask the handler, render. Holds no rule; counts decisions by reason."""

from collections import Counter, deque
from collections.abc import Iterator
from typing import Any, Final

from axbridge.router.v1 import router_service_pb2, router_service_pb2_grpc

from services.router.checks import Checks
from services.router.domain import Call, Decision, Refusal
from services.router.handlers import Router
from services.router.messages import forward_from, message_from
from services.router.octets import octets_from, result_from, results_from
from services.router.translate import (
    call_from,
    check_batch,
    checked_from,
    explanation_from,
    progress_from,
    time_from,
)
from services.runtime.errors import Unimplemented
from services.runtime.metrics import Metrics, Name
from services.runtime.status import status_of
from services.runtime.telemetry import logger

_LOG: Final = logger(__name__)


class RouterServicer(router_service_pb2_grpc.RouterServiceServicer):
    """axbridge.router.v1.RouterService."""

    def __init__(self, router: Router, metrics: Metrics, checks: Checks | None = None) -> None:
        self._checks, self._message = checks, router.message
        self._route, self._explain, self.report = router.route, router.explain, router.report
        self._counters: dict[Refusal | None, Any] = {
            refusal: metrics.counter(Name.ROUTE_DECISIONS, reason=refusal.name)
            for refusal in Refusal
        }
        self._counters[None] = metrics.counter(Name.ROUTE_DECISIONS, reason="CONNECTED")
        self._uncounted: deque[Refusal | None] = deque()
        self._count = self._uncounted.append  # one step, without a lock

    def flush(self) -> None:
        """Counts the decisions since the last time; call it a few times a second, and at the end.
        From one thread: the counter is a mapped file behind a lock, too much for every call."""
        taken = self._uncounted.popleft
        for reason, decisions in Counter(taken() for _ in range(len(self._uncounted))).items():
            self._counters[reason].inc(decisions)

    def decide(self, call: Call) -> Decision:
        """The decision about a call, counted; for this edge and the others of the process."""
        decision = self._route(call)
        self._count(decision.refusal)
        return decision

    def message(
        self, request: router_service_pb2.RouteMessageRequest
    ) -> router_service_pb2.RouteMessageResponse:
        """The answer about a short message, counted; for this edge and the others."""
        decision, text = self._message(*message_from(request))
        self._count(decision.refusal)
        return forward_from(decision, text)

    def check(
        self, request: router_service_pb2.CheckNumberRequest, asker: str
    ) -> router_service_pb2.CheckNumberResponse:
        """What anybody may know; for this edge and the others."""
        if self._checks is None:
            raise Unimplemented("UNIMPLEMENTED", "no directory of platforms")
        return checked_from(self._checks.check(request.number, asker))

    def RouteCall(
        self, request: router_service_pb2.RouteCallRequest, context: object
    ) -> Any:  # octets, which the guard sends as they are
        return octets_from(self.decide(call_from(request)))

    def BatchRouteCalls(
        self, request: router_service_pb2.BatchRouteCallsRequest, context: object
    ) -> Any:  # octets likewise
        check_batch(len(request.requests))
        return results_from(map(self._result, request.requests))

    def StreamRouteCalls(
        self, requests: Iterator[router_service_pb2.StreamRouteCallsRequest], context: object
    ) -> Iterator[Any]:  # of octets
        return (self._result(item.request) for item in requests)

    def _result(self, request: router_service_pb2.RouteCallRequest) -> bytes:
        """The RouteCallResult: whatever happens to one call, the others go on."""
        try:
            return result_from(octets_from(self.decide(call_from(request))))
        except Exception as error:
            result = router_service_pb2.RouteCallResult(error=status_of(error, "RouteCall"))
            return result.SerializeToString()

    def ExplainRoute(
        self, request: router_service_pb2.ExplainRouteRequest, context: object
    ) -> router_service_pb2.ExplainRouteResponse:
        decision = self._explain(call_from(request.call), time_from(request))
        # What leaves no record in the journal leaves one here, without a party's number.
        refusal = decision.refusal
        _LOG.info(
            "explained", carrier=decision.call.carrier, number=decision.number,
            tenant=decision.tenant, decision=refusal.name if refusal else "CONNECTED",
        )  # fmt: skip
        return explanation_from(decision)

    def RouteMessage(
        self, request: router_service_pb2.RouteMessageRequest, context: object
    ) -> router_service_pb2.RouteMessageResponse:
        return self.message(request)

    def CheckNumber(
        self, request: router_service_pb2.CheckNumberRequest, context: Any
    ) -> router_service_pb2.CheckNumberResponse:
        return self.check(request, context.peer().rpartition(":")[0])

    def ReportCallEvent(
        self, request: router_service_pb2.ReportCallEventRequest, context: object
    ) -> router_service_pb2.ReportCallEventResponse:
        self.report(progress_from(request))
        return router_service_pb2.ReportCallEventResponse()
