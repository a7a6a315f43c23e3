"""Samples of what is published about retention; see samples.py."""

from axbridge.binding.v1 import events_pb2, retention_pb2
from axbridge.type.v1 import sealed_pb2
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp


def at(seconds: int) -> Timestamp:
    return Timestamp(seconds=1_770_000_000 + seconds, nanos=123_000_000)


SECRETS = sealed_pb2.Sealed(key_id="purge/taxi/202608", box=b"\x01" + bytes(28) + b"\xe1")
PURGED = events_pb2.BucketPurged(
    tenant="taxi",
    bucket="purge/taxi/202602",
    purge_time=at(1),
    cell="c0",
    dropped_bindings=2,
    dropped_erasures=1,
)
ERASURE = retention_pb2.Erasure(
    name="tenants/taxi/erasures/0190a1b2-0000-7000-8000-000000000001",
    state=retention_pb2.ERASURE_STATE_RESTRICTED,
    create_time=at(2),
    restrict_time=at(3),
    erase_time=at(4),
    binding_count=3,
)

HOLD = retention_pb2.LegalHold(
    name="tenants/taxi/legalHolds/case-1",
    state=retention_pb2.LEGAL_HOLD_STATE_RELEASED,
    reference="decision 7 of 2026",
    bindings=["tenants/taxi/bindings/0190a1b2-0000-7000-8000-000000000001"],
    missing=["tenants/taxi/bindings/0190a1b2-0000-7000-8000-000000000002"],
    create_time=at(6),
    release_time=at(7),
    retention_end_time=at(8),
)

RETENTION: dict[str, Message] = {
    "binding.v1.BucketPurged": PURGED,
    "binding.v1.SubjectRestricted": events_pb2.SubjectRestricted(
        tenant="taxi",
        erasure="0190a1b2-0000-7000-8000-000000000001",
        aggregate_version=2,
        restrict_time=at(3),
        erase_time=at(4),
        binding_count=3,
        secrets=SECRETS,
    ),
    "binding.v1.SubjectRestricted.consents": events_pb2.SubjectRestricted(
        tenant="taxi", consent_count=2
    ),
    "binding.v1.SubjectExported": events_pb2.SubjectExported(
        tenant="taxi",
        export="0190a1b2-0000-7000-8000-000000000002",
        export_time=at(5),
        recipient=bytes(range(32)),
        event_count=7,
        secrets=SECRETS,
    ),
    "binding.v1.LegalHoldChanged": events_pb2.LegalHoldChanged(hold=HOLD, aggregate_version=3),
    "binding.v1.LegalHoldEnded": events_pb2.LegalHoldEnded(
        tenant="taxi", case="case-1", end_time=at(9), held_count=1
    ),
    "binding.v1.StateRecord.legal_hold": events_pb2.StateRecord(legal_hold=HOLD),
    "binding.v1.StateRecord.held": events_pb2.StateRecord(
        held=events_pb2.HeldRecord(
            tenant="taxi",
            case="case-1",
            binding="0190a1b2-0000-7000-8000-000000000001",
            content=sealed_pb2.Sealed(key_id="case/taxi/case-1", box=b"\x01" + bytes(28) + b"\xe2"),
        )
    ),
    "binding.v1.SubjectSecrets": events_pb2.SubjectSecrets(tag=bytes(range(16))),
    "binding.v1.StateRecord.purge": events_pb2.StateRecord(
        purge=events_pb2.PurgeRecord(
            tenant="taxi", purged_until=24314, update_time=at(1), purged=PURGED
        )
    ),
    "binding.v1.StateRecord.erasure.consents": events_pb2.StateRecord(
        erasure=events_pb2.ErasureRecord(erasure=retention_pb2.Erasure(consent_count=2))
    ),
    "binding.v1.StateRecord.erasure": events_pb2.StateRecord(
        erasure=events_pb2.ErasureRecord(
            erasure=ERASURE,
            secrets=SECRETS,
            request_id="0b5e1f3a-5d6c-4e7f-8a9b-0c1d2e3f4a5b",
            body_hash=bytes(range(16)),
        )
    ),
}
