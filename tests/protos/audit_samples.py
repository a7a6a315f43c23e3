"""Samples of what is a leaf of the log without ever standing in Kafka, and of a leaf itself."""

from axbridge.audit.v1 import entry_pb2 as entry
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

_VKEY = "log.example+530d903e+AVJLpCZhoWVXU4sVYN4JWQfoxvTCFTFWVTdLTxRuNXmy"

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
}
