"""Samples of what is a leaf of the log without ever standing in Kafka, and of a leaf itself."""

from axbridge.audit.v1 import entry_pb2 as entry
from axbridge.audit.v1 import events_pb2 as events
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

_VKEY = "log.example+530d903e+AVJLpCZhoWVXU4sVYN4JWQfoxvTCFTFWVTdLTxRuNXmy"

_FACT = events.ReconciliationFact(carrier="c1", day="2026-02-03", file_sha256=bytes(range(32)))
_CALL = events.ReconciledCall(
    call_id="call-1",
    number="700123456780001",
    call_time=Timestamp(seconds=1_770_000_000, nanos=123_000_000),
    tenant="taxi",
    binding="b1",
)

AUDIT: dict[str, Message] = {
    "audit.v1.Entry": entry.Entry(
        event_id="e1",
        type="axbridge.binding.v1.BindingCreated",
        source="binding/c0",
        time=Timestamp(seconds=1_770_000_000, nanos=123_000_000),
        topic="binding.bindings.v1",
        partition=3,
        offset=1 << 40,
        key=b"700123456780001/b1",
        value=b"\x0a\x00",
    ),
    "audit.v1.ParkedEvent": entry.ParkedEvent(
        topic="binding.bindings.v1",
        partition=3,
        offset=1 << 40,
        sha256=bytes(range(32)),
        reason="VALUE_UNDECODABLE",
    ),
    "audit.v1.LogKeyAdded": entry.LogKeyAdded(vkey=_VKEY),
    "audit.v1.LogKeyRetired": entry.LogKeyRetired(
        vkey=_VKEY,
        reason=entry.LOG_KEY_END_COMPROMISED,
        last_size=1 << 40,
        last_root=bytes(range(32)),
    ),
    "audit.v1.CallMissing": events.CallMissing(fact=_FACT, call=_CALL),
    "audit.v1.CallExtra": events.CallExtra(fact=_FACT, call=_CALL),
    "audit.v1.CallDiffers": events.CallDiffers(
        fact=_FACT,
        call=_CALL,
        differences=[events.CallDifference(field="duration", ours="55", theirs="60")],
    ),
    "audit.v1.DayReconciled": events.DayReconciled(
        fact=_FACT, matched_count=4, missing_count=1, extra_count=2, differing_count=3
    ),
}
