"""Makes the leaf of each record: the bytes of an `Entry`, with key and value octet for octet.

A record that is no event of its topic is parked, and its hash and position become the leaf in its
place. Refuses to change or leave out anything. Invariant: every record of a topic gives exactly one
entry; repeats of an event differ in their position, never in their id, and the log keeps the first.
"""

from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Final

from axbridge.allocator.v1 import events_pb2 as allocator_events
from axbridge.audit.v1 import entry_pb2
from axbridge.audit.v1 import events_pb2 as audit_events
from axbridge.binding.v1 import events_pb2 as binding_events
from axbridge.router.v1 import events_pb2 as router_events
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from services.audit.logfolder import Event
from services.audit.logkeys import KeyChange
from services.audit.tiles import MAX_ENTRY
from services.runtime.envelope import Envelope
from services.runtime.errors import Malformed
from services.runtime.parking import Parking
from services.runtime.record import Record
from services.runtime.topics import Topic

PARKED_TYPE: Final = entry_pb2.ParkedEvent.DESCRIPTOR.full_name
# Of leaves that are made here and come from no producer.
OWN_TYPES: Final = (
    PARKED_TYPE,
    entry_pb2.LogKeyAdded.DESCRIPTOR.full_name,
    entry_pb2.LogKeyRetired.DESCRIPTOR.full_name,
)
# Ids of those leaves; no event may call itself so, or it could take the place of one.
PARKED_PREFIX: Final = "parked/"
KEY_PREFIX: Final = "log-key/"
_OWN_PREFIXES: Final = (PARKED_PREFIX, KEY_PREFIX)
LONGEST_ID: Final = 200
_FILES: Final[tuple[FileDescriptor, ...]] = (
    allocator_events.DESCRIPTOR,
    binding_events.DESCRIPTOR,
    router_events.DESCRIPTOR,
    entry_pb2.DESCRIPTOR,
    audit_events.DESCRIPTOR,
)
_CLASSES: Final[Mapping[str, type[Message]]] = {
    message.full_name: GetMessageClass(message)
    for file in _FILES
    for message in file.message_types_by_name.values()
}


class EntryMaker:
    """Decoder of the consumer loop: never raises Malformed, since what is malformed is a leaf too.

    After a crash between parking and leaf it is parked no second time, and makes one leaf.
    """

    def __init__(self, topics: Iterable[Topic], parking: Parking) -> None:
        """Raises KeyError if a topic holds a message type unknown here."""
        self._types = {topic.name: types_of(topic) for topic in topics}
        self._parking = parking

    def __call__(self, record: Record) -> Event:
        try:
            return event_of(record, self._types[record.topic])
        except Malformed as malformed:
            self._parking.park(record, malformed)
            return parked_event(record, malformed.reason)


def event_of(record: Record, types: Mapping[str, type[Message]]) -> Event:
    """The event in a record, ready to be a leaf.

    Raises:
        Malformed: the record is no event of one of these types.
    """
    try:
        envelope = record.envelope
    except OverflowError as error:  # a date beyond what the platform's time can hold
        raise Malformed("ENVELOPE_MALFORMED") from error
    value = _checked_value(record, envelope, types)
    entry = entry_pb2.Entry(
        event_id=envelope.event_id,
        type=envelope.type,
        source=envelope.source,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        key=record.key,
        value=value,
    )
    _set_time(entry, envelope.time_ms)
    stored = entry.SerializeToString(deterministic=True)
    if len(stored) > MAX_ENTRY:
        raise Malformed("ENTRY_TOO_LONG")
    return Event(envelope.event_id.encode(), stored)


def parked_event(record: Record, reason: str) -> Event:
    """The entry that stands for a record that is none. Its key may be anything: left out."""
    event_id = f"{PARKED_PREFIX}{record.topic}/{record.partition}/{record.offset}"
    parked = entry_pb2.ParkedEvent(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        sha256=sha256(record.value or b"").digest(),
        reason=reason,
    )
    entry = entry_pb2.Entry(
        event_id=event_id,
        type=PARKED_TYPE,
        source="audit",
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        value=parked.SerializeToString(deterministic=True),
    )
    _set_time(entry, max(record.timestamp_ms, 0))
    return Event(event_id.encode(), entry.SerializeToString(deterministic=True))


def key_event(change: KeyChange, leaf: int, time_ms: int) -> Event:
    """The entry that says which key signs, or signs no more, from this leaf on."""
    message: Message
    if change.last is None:
        kind, message = "added", entry_pb2.LogKeyAdded(vkey=change.vkey)
    else:
        kind, message = (
            "retired",
            entry_pb2.LogKeyRetired(
                vkey=change.vkey,
                reason=entry_pb2.LOG_KEY_END_COMPROMISED
                if change.compromised
                else entry_pb2.LOG_KEY_END_ROTATED,
                last_size=change.last.size,
                last_root=change.last.root,
            ),
        )
    entry = entry_pb2.Entry(
        event_id=f"{KEY_PREFIX}{kind}/{change.vkey.split('+')[1]}",
        type=message.DESCRIPTOR.full_name,
        source="audit",
        offset=leaf,
        value=message.SerializeToString(deterministic=True),
    )
    _set_time(entry, time_ms)
    return Event(entry.event_id.encode(), entry.SerializeToString(deterministic=True))


def event_id_of(entry: bytes) -> bytes:
    """The event id in a stored entry."""
    return entry_pb2.Entry.FromString(entry).event_id.encode()


def message_of(entry: entry_pb2.Entry) -> Message:
    """The event in an entry. Raises KeyError for a type unknown here, DecodeError."""
    return _CLASSES[entry.type].FromString(entry.value)


def same_event(entry: bytes, other: bytes) -> bool:
    """Whether two entries of one id are repeats of one event: only their places differ."""
    if entry == other:
        return True
    one, two = entry_pb2.Entry.FromString(entry), entry_pb2.Entry.FromString(other)
    for each in (one, two):
        for field in ("topic", "partition", "offset"):
            each.ClearField(field)
    return one == two


def types_of(topic: Topic) -> Mapping[str, type[Message]]:
    """The message classes of a topic's values by full name."""
    return {name: _CLASSES[name] for name in topic.messages}


def _checked_value(record: Record, envelope: Envelope, types: Mapping[str, type[Message]]) -> bytes:
    if not 0 < len(envelope.event_id) <= LONGEST_ID or envelope.event_id.startswith(_OWN_PREFIXES):
        raise Malformed("EVENT_ID_INVALID")
    message = types.get(envelope.type)
    if message is None:
        raise Malformed("TYPE_UNKNOWN")
    if record.value is None:
        raise Malformed("VALUE_MISSING")
    try:
        message.FromString(record.value)
    except DecodeError as error:
        raise Malformed("VALUE_UNDECODABLE") from error
    return record.value


def _set_time(entry: entry_pb2.Entry, time_ms: int) -> None:
    entry.time.seconds, millis = divmod(time_ms, 1000)
    entry.time.nanos = millis * 1_000_000
