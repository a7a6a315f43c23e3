"""Registers: the small aggregates beside bindings, as they are stored and published. Pure.

A register is a consent or a consent policy. Refuses to choose what becomes
of one. Invariant: all that is published of a version follows from its state record alone, so it can
be published again, under the same id and with the same octets.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple

from axbridge.binding.v1 import consent_pb2, events_pb2
from axbridge.runtime.v1 import outbox_pb2

from services.binding.domain import Answered
from services.binding.messages import millis
from services.runtime import topics

Kind = Literal["consent", "consent-policy"]
KINDS: Final[tuple[Kind, ...]] = ("consent", "consent-policy")
POLICY_ID: Final = "current"  # a tenant has one
_EVENTS: Final = "axbridge.binding.v1."


class Place(NamedTuple):
    """Which register; its text is its key on Kafka."""

    kind: Kind
    tenant: str
    id: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.tenant}/{self.id}"

    @classmethod
    def parse(cls, text: str) -> "Place | None":
        """What `str` made; None for the key of something else."""
        parts = text.split("/")
        if len(parts) != 3 or parts[0] not in KINDS:
            return None
        return cls(*parts)  # type: ignore[arg-type]


class Register(NamedTuple):
    """One version of a register, with what the store looks it up and judges by."""

    place: Place
    version: int
    state: events_pb2.StateRecord
    tag: bytes
    field: bytes
    mark: str
    due_ms: int | None
    requests: tuple[Answered, ...]

    def __repr__(self) -> str:
        return f"<Register {self.place} version {self.version}>"


def place_of(state: events_pb2.StateRecord) -> Place | None:
    """Whose state it is; None where it is no register's."""
    match state.WhichOneof("record"):
        case "consent":
            return Place("consent", state.consent.fact.tenant, state.consent.fact.consent)
        case "consent_policy":
            return Place("consent-policy", state.consent_policy.tenant, POLICY_ID)
    return None


class RegisterRecords:
    """Makes outbox entries; `partitions` holds the number of each topic's."""

    def __init__(self, partitions: Mapping[str, int]) -> None:
        self._partitions = partitions

    def entry(self, state: events_pb2.StateRecord) -> bytes:
        """What announces this version: state first, as with bindings."""
        place = place_of(state)
        assert place is not None
        version, time_ms, event = _event_of(state)
        stored = self._record(topics.BINDING_STATE, place, version, time_ms, state)
        told = self._record(topics.BINDING_CONSENTS, place, version, time_ms, event)
        who = place.tenant if place.kind == "consent-policy" else place.id
        told.event_id = f"{'policy-' if who == place.tenant else ''}{who}-{version}"
        told.type = _EVENTS + event.DESCRIPTOR.name
        return outbox_pb2.OutboxEntry(records=[stored, told]).SerializeToString()

    def tombstones(self, place: Place, version: int, now: int) -> bytes:
        """What deletes the register's compacted record."""
        record = self._record(topics.BINDING_STATE, place, version, now, None)
        return outbox_pb2.OutboxEntry(records=[record]).SerializeToString()

    def _record(
        self, topic: topics.Topic, place: Place, version: int, time_ms: int, value: Any
    ) -> outbox_pb2.OutboxRecord:
        return outbox_pb2.OutboxRecord(
            topic=topic.name,
            partition=topics.partition_of(str(place), self._partitions[topic.name]),
            key=str(place).encode(),
            value=value.SerializeToString() if value is not None else b"",
            tombstone=value is None,
            type=topic.messages[0],
            time_ms=time_ms,
            version=version,
        )


def _event_of(state: events_pb2.StateRecord) -> tuple[int, int, Any]:
    """Version and time of a state, and the event that tells of it."""
    if state.HasField("consent"):
        consent = state.consent
        name = _CONSENT_EVENTS[consent.state]
        event = name(fact=consent.fact, secrets=consent.secrets)
        if consent.HasField("withdrawal"):
            event.withdrawal.CopyFrom(consent.withdrawal)
        return consent.fact.aggregate_version, millis(consent.update_time), event
    changed = state.consent_policy
    version = changed.policy.version
    told = events_pb2.ConsentPolicyChanged(
        tenant=changed.tenant, aggregate_version=version, policy=changed.policy
    )
    return version, millis(changed.update_time), told


_CONSENT_EVENTS: Final[Mapping[int, Any]] = {
    consent_pb2.CONSENT_STATE_ACTIVE: events_pb2.ConsentGranted,
    consent_pb2.CONSENT_STATE_WITHDRAWAL_REQUESTED: events_pb2.ConsentWithdrawalRequested,
    consent_pb2.CONSENT_STATE_DRAINING: events_pb2.ConsentWithdrawn,
    consent_pb2.CONSENT_STATE_WITHDRAWN: events_pb2.ConsentDrained,
}
