"""Registers: the small aggregates beside bindings, as they are stored and published. Pure.

A register is a consent, a consent policy or an entry of a blacklist. Refuses to choose what becomes
of one. Invariant: all that is published of a version follows from its state record alone, so it can
be published again, under the same id and with the same octets.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple

from axbridge.binding.v1 import blacklist_pb2, consent_pb2, events_pb2
from axbridge.runtime.v1 import outbox_pb2

from services.binding.domain import Answered
from services.binding.messages import millis
from services.runtime import topics

Kind = Literal["consent", "consent-policy", "blacklist"]
KINDS: Final[tuple[Kind, ...]] = ("consent", "consent-policy", "blacklist")
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
        case "blacklist_entry":
            fact = state.blacklist_entry.fact
            return Place("blacklist", fact.tenant, fact.entry)
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
        events, records = topics.BINDING_CONSENTS, []
        if place.kind == "blacklist":
            held = state.blacklist_entry
            denial = held.denial if held.HasField("denial") else None
            events = topics.BINDING_BLACKLISTS
            records = [self._record(topics.BINDING_DENIALS, place, version, time_ms, denial)]
        stored = self._record(topics.BINDING_STATE, place, version, time_ms, state)
        told = self._record(events, place, version, time_ms, event)
        who = place.tenant if place.kind == "consent-policy" else place.id
        told.event_id = f"{'policy-' if who == place.tenant else ''}{who}-{version}"
        told.type = _EVENTS + event.DESCRIPTOR.name
        return outbox_pb2.OutboxEntry(records=[stored, *records, told]).SerializeToString()

    def on(self, topic: str, state: events_pb2.StateRecord) -> bytes | None:
        """What stands on a compacted topic of a register in this state; None: nothing, any more."""
        entry = outbox_pb2.OutboxEntry.FromString(self.entry(state))
        stands = next(record for record in entry.records if record.topic == topic)
        return None if stands.tombstone else stands.value

    def tombstones(self, place: Place, version: int, now: int) -> bytes:
        """What deletes the register's compacted records."""
        denials = [topics.BINDING_DENIALS] if place.kind == "blacklist" else []
        compacted = [topics.BINDING_STATE, *denials]
        records = [self._record(topic, place, version, now, None) for topic in compacted]
        return outbox_pb2.OutboxEntry(records=records).SerializeToString()

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
    if state.HasField("blacklist_entry"):
        return _event_of_entry(state.blacklist_entry)
    changed = state.consent_policy
    version = changed.policy.version
    told = events_pb2.ConsentPolicyChanged(
        tenant=changed.tenant, aggregate_version=version, policy=changed.policy
    )
    return version, millis(changed.update_time), told


def _event_of_entry(entry: events_pb2.BlacklistRecord) -> tuple[int, int, Any]:
    version = entry.fact.aggregate_version
    if entry.state == blacklist_pb2.BLACKLIST_ENTRY_STATE_ACTIVE:
        added = events_pb2.BlacklistEntryAdded(fact=entry.fact, secrets=entry.secrets)
        return version, millis(entry.fact.create_time), added
    removed = events_pb2.BlacklistEntryRemoved(
        fact=entry.fact, secrets=entry.secrets, state=entry.state, end_time=entry.end_time
    )
    return version, millis(entry.end_time), removed


_CONSENT_EVENTS: Final[Mapping[int, Any]] = {
    consent_pb2.CONSENT_STATE_ACTIVE: events_pb2.ConsentGranted,
    consent_pb2.CONSENT_STATE_WITHDRAWAL_REQUESTED: events_pb2.ConsentWithdrawalRequested,
    consent_pb2.CONSENT_STATE_DRAINING: events_pb2.ConsentWithdrawn,
    consent_pb2.CONSENT_STATE_WITHDRAWN: events_pb2.ConsentDrained,
    consent_pb2.CONSENT_STATE_ERASED: events_pb2.ConsentErased,
}
