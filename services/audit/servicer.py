"""The gRPC edge: parse, call, render. Errors are the server's to translate (`runtime.guard`)."""

from axbridge.audit.v1 import audit_service_pb2 as service
from axbridge.audit.v1 import audit_service_pb2_grpc, entry_pb2
from grpc import ServicerContext

from services.audit import translate
from services.audit.domain import invalid
from services.audit.handlers import RECEIPT_SECONDS, Audit
from services.audit.tracing import Tracer


class AuditServicer(audit_service_pb2_grpc.AuditServiceServicer):
    """AuditService over the use cases. Called from many threads."""

    def __init__(self, audit: Audit, tracer: Tracer) -> None:
        self._audit = audit
        self._tracer = tracer

    def QueryEvents(
        self, request: service.QueryEventsRequest, context: ServicerContext
    ) -> service.QueryEventsResponse:
        return translate.page(self._audit.query_events(translate.query_of(request)))

    def Trace(
        self, request: service.TraceRequest, context: ServicerContext
    ) -> service.TraceResponse:
        found = self._tracer.trace(*translate.trace_of(request), prove=request.prove)
        return translate.trace(found)

    def GetCheckpoint(
        self, request: service.GetCheckpointRequest, context: ServicerContext
    ) -> service.GetCheckpointResponse:
        return translate.checkpoint(*self._audit.checkpoint())

    def GetInclusionProof(
        self, request: service.GetInclusionProofRequest, context: ServicerContext
    ) -> entry_pb2.InclusionProof:
        match request.WhichOneof("leaf"):
            case "event_id":
                proof = self._audit.prove_event(request.event_id, request.tree_size)
            case "leaf_index":
                proof = self._audit.prove_leaf(request.leaf_index, request.tree_size)
            case _:
                raise invalid("leaf")
        return translate.inclusion(proof)

    def GetReceipt(
        self, request: service.GetReceiptRequest, context: ServicerContext
    ) -> entry_pb2.Receipt:
        left = context.time_remaining()
        seconds = RECEIPT_SECONDS if left is None else min(RECEIPT_SECONDS, left * 0.8)
        return translate.receipt(
            self._audit.receipt(request.event_id, seconds, witnessed=request.witnessed)
        )

    def GetConsistencyProof(
        self, request: service.GetConsistencyProofRequest, context: ServicerContext
    ) -> entry_pb2.ConsistencyProof:
        proof = self._audit.prove_growth(request.first_size, request.second_size)
        return translate.consistency(proof)
