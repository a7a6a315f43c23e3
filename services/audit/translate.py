"""Between audit's protos and its domain. Pure; total towards the proto.

Refuses what has no meaning: times outside RFC 3339's years, short type names nobody publishes.
Invariant: entries go out as they are stored; nothing is opened, added or left out.
"""

from collections.abc import Mapping
from typing import Any, Final

from axbridge.audit.v1 import audit_service_pb2 as service
from axbridge.audit.v1 import entry_pb2
from google.protobuf.timestamp_pb2 import Timestamp

from services.audit.domain import Query, invalid
from services.audit.entry import OWN_TYPES
from services.audit.handlers import Consistency, Found, Inclusion, Page, Receipt
from services.audit.ports import Published
from services.audit.tlogproof import OfflineProof
from services.audit.tracing import Role, Trace
from services.runtime.phone import PhoneNumber, parse_party
from services.runtime.topics import EVENT_TOPICS

_TYPES: Final = (*OWN_TYPES, *(name for topic in EVENT_TOPICS for name in topic.messages))
_FULL_NAMES: Final[Mapping[str, str]] = {name.rpartition(".")[2]: name for name in _TYPES}
_ROLES: Final[Mapping[Role, Any]] = {
    "none": service.CALLER_ROLE_UNSPECIFIED,
    "party": service.CALLER_ROLE_PARTY,
    "stranger": service.CALLER_ROLE_STRANGER,
}
_YEAR_1: Final = -62_135_596_800
_YEAR_9999: Final = 253_402_300_799


def query_of(request: service.QueryEventsRequest) -> Query:
    """Raises InvalidArgument: INVALID_FIELD."""
    return Query(
        tenant=request.tenant,
        binding=request.binding,
        order_id=request.order_id,
        number=request.number,
        type=_full_type(request.type),
        start_ms=_ms(request.start_time, "start_time") if request.HasField("start_time") else None,
        end_ms=_ms(request.end_time, "end_time") if request.HasField("end_time") else None,
        call=request.call,
        party=_party(request, "party"),
        page_size=request.page_size,
        page_token=request.page_token,
        prove=request.prove,
    )


def trace_of(request: service.TraceRequest) -> tuple[str, int, PhoneNumber | None]:
    """Number, time and caller. Raises InvalidArgument: INVALID_FIELD, PARTY_NUMBER_…."""
    if not request.HasField("time"):
        raise invalid("time")
    return request.number, _ms(request.time, "time"), _party(request, "caller")


def page(found: Page) -> service.QueryEventsResponse:
    return service.QueryEventsResponse(
        events=map(_event, found.events),
        next_page_token=found.next_token,
        checkpoint=found.note.decode(),
    )


def trace(found: Trace) -> service.TraceResponse:
    response = service.TraceResponse(erased_count=found.erased, checkpoint=found.note.decode())
    for each in found.bindings:
        response.bindings.add(
            binding=f"tenants/{each.tenant}/bindings/{each.binding}",
            event=_event(each.event),
            caller_role=_ROLES[each.role],
        )
    return response


def checkpoint(published: Published, witnessed: Published | None) -> service.GetCheckpointResponse:
    return service.GetCheckpointResponse(
        checkpoint=published.note.decode(),
        vkey=published.vkey,
        vkeys=published.vkeys,
        witnessed_checkpoint=witnessed.note.decode() if witnessed else "",
    )


def inclusion(proof: Inclusion) -> entry_pb2.InclusionProof:
    return entry_pb2.InclusionProof(
        leaf_index=proof.leaf,
        tree_size=proof.size,
        leaf_hash=proof.leaf_hash,
        hashes=proof.hashes,
        checkpoint=proof.note.decode(),
    )


def receipt(found: Receipt) -> entry_pb2.Receipt:
    proof = found.proof
    answer = entry_pb2.Receipt(
        proof=inclusion(proof),
        tlog_proof=OfflineProof(proof.leaf, proof.hashes, proof.note).render(),
        entry=found.entry,
    )
    answer.event.leaf_index = proof.leaf
    answer.event.entry.ParseFromString(found.entry)
    return answer


def consistency(proof: Consistency) -> entry_pb2.ConsistencyProof:
    return entry_pb2.ConsistencyProof(
        first_size=proof.first, second_size=proof.second, hashes=proof.hashes
    )


def _event(found: Found) -> entry_pb2.Event:
    event = entry_pb2.Event(leaf_index=found.leaf)
    event.entry.ParseFromString(found.entry)
    if found.proof is not None:
        event.proof.CopyFrom(inclusion(found.proof))
    return event


def _party(request: Any, field: str) -> PhoneNumber | None:
    return parse_party(getattr(request, field).e164, field) if request.HasField(field) else None


def _full_type(name: str) -> str:
    if not name or "." in name:
        return name
    if name not in _FULL_NAMES:
        raise invalid("type")
    return _FULL_NAMES[name]


def _ms(time: Timestamp, field: str) -> int:
    """Whole milliseconds, rounded up: an event's time, a whole one, is on the same side of both."""
    if not (_YEAR_1 <= time.seconds <= _YEAR_9999 and 0 <= time.nanos < 1_000_000_000):
        raise invalid(field)
    return time.seconds * 1000 - (-time.nanos // 1_000_000)
