"""What an event tells of a person: the part of an export that is about one event.

Refuses to tell of the other party: neither tags nor sealed parts leave here. Invariant: an event
is told of only to whom its own sealed part names, so nothing is found by what stands in clear.
"""

from typing import Any, Final

from axbridge.binding.v1 import events_pb2, retention_service_pb2
from google.protobuf.message import DecodeError

from services.binding.messages import unsealed
from services.runtime import topics
from services.runtime.aead import SealBroken, associated
from services.runtime.envelope import parse
from services.runtime.errors import Malformed
from services.runtime.keyring import KeyDestroyed
from services.runtime.record import Record
from services.runtime.sealing import PurgeSealer

SubjectEvent = retention_service_pb2.SubjectEvent

# Topics of events about people; True: what stands there ends to be used with an erasure (R17). A
# blacklist does not: it rests on the duty to keep fraud out (R9), not on the person's consent.
TOPICS: Final[dict[str, bool]] = {
    topics.BINDING_BINDINGS.name: True,
    topics.BINDING_CONSENTS.name: True,
    topics.BINDING_BLACKLISTS.name: False,
}
# What the sealed part of each kind of event is bound to, the field with the id, and its message.
_KINDS: Final[dict[Any, tuple[str, str, Any]]] = {
    **dict.fromkeys(
        (events_pb2.BindingCreated, events_pb2.BindingUpdated, events_pb2.BindingReleased),
        ("binding-event", "binding", events_pb2.BindingSecrets),
    ),
    **dict.fromkeys(
        (
            events_pb2.ConsentGranted,
            events_pb2.ConsentWithdrawalRequested,
            events_pb2.ConsentWithdrawn,
            events_pb2.ConsentDrained,
        ),
        ("consent-event", "consent", events_pb2.ConsentSecrets),
    ),
    **dict.fromkeys(
        (events_pb2.BlacklistEntryAdded, events_pb2.BlacklistEntryRemoved),
        ("blacklist-event", "entry", events_pb2.BlacklistSecrets),
    ),
}
_EVENTS: Final = {kind.DESCRIPTOR.full_name: kind for kind in _KINDS}


class Subjects:
    """Opens events for whoever asks for the data of a person."""

    def __init__(self, sealer: PurgeSealer) -> None:
        self._sealer = sealer

    def told(self, record: Record, tenant: str, tag: bytes) -> SubjectEvent | None:
        """The event, if it is about the person of that tag and can be opened."""
        try:
            envelope = parse(record.headers)
            kind = _EVENTS.get(envelope.type)
            if kind is None or record.value is None:
                return None
            message = kind.FromString(record.value)
            fact, box = message.fact, unsealed(message.secrets)
            if fact.tenant != tenant or box is None:
                return None
            purpose, identity, secrets = _KINDS[kind]
            bound = associated(purpose, tenant, getattr(fact, identity), fact.aggregate_version)
            event = _about(message, secrets.FromString(self._sealer.open(box, bound)), tag)
        except (KeyDestroyed, SealBroken, Malformed, DecodeError):
            return None  # erased, or not ours to judge: audit counts what does not open
        if event is not None:
            event.type = envelope.type
            event.time.FromMilliseconds(envelope.time_ms)
        return event


def _about(message: Any, secrets: Any, tag: bytes) -> SubjectEvent | None:
    """What the sealed part adds, if it names the person."""
    if isinstance(secrets, events_pb2.ConsentSecrets):
        if secrets.tag != tag:
            return None
        event = SubjectEvent(consent=message.fact, evidence_ref=secrets.evidence_ref)
        if "withdrawal" in message.DESCRIPTOR.fields_by_name:
            event.withdrawal.CopyFrom(message.withdrawal)
        return event
    if isinstance(secrets, events_pb2.BlacklistSecrets):
        sides = {secrets.callee_tag: "CALLEE", secrets.caller_tag: "CALLER"}
        return SubjectEvent(blacklist=message.fact, side=sides[tag]) if tag in sides else None
    sides = {secrets.tag_b: "B", secrets.tag_a: "A"}
    if tag not in sides:
        return None
    return SubjectEvent(
        fact=message.fact, order_id=secrets.order_id, customer_data=secrets.customer_data,
        side=sides[tag],
    )  # fmt: skip
