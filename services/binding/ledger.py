"""The ledger of retention: how far a tenant's buckets were purged, and who asked to be erased.

One record each in the cell and on `binding.state.v1`, keyed `<kind>/<tenant>/<name>`, with an event
on `binding.retention.v1` for the versions that are news. Refuses to choose what is written.

Invariant: all that is published of a version follows from its state record alone, so it can be
published again, under the same event id; what a heal restored of the last day is.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Final, NamedTuple

from axbridge.binding.v1 import events_pb2, retention_pb2
from axbridge.runtime.v1 import outbox_pb2
from google.protobuf.message import DecodeError, Message

from services.binding.domain import REMEMBERED_MS
from services.binding.messages import millis
from services.binding.ports import Taken
from services.binding.records import Records
from services.binding.replies import answer, applied, decoding
from services.runtime import topics
from services.runtime.cell import Argument, Cell
from services.runtime.clock import Clock
from services.runtime.envelope import header_int
from services.runtime.errors import Malformed
from services.runtime.record import Record

KINDS: Final = ("purge", "erasure", "case", "held")
_SETTING: Final = retention_pb2.LEGAL_HOLD_STATE_SETTING
_PAGE: Final = 500


class Place(NamedTuple):
    """Which record; its text is its key on Kafka."""

    kind: str
    tenant: str
    name: str

    def __str__(self) -> str:
        return "/".join(self)

    @classmethod
    def parse(cls, text: str) -> "Place | None":
        """What `str` made; None for the key of something else."""
        parts = text.split("/")
        return cls(*parts) if len(parts) == 3 and parts[0] in KINDS else None


class Entered(NamedTuple):
    """A record as the cell has it. `version` 0: there is none."""

    state: events_pb2.StateRecord
    version: int
    sequence: int


class Request(NamedTuple):
    """The request that a version answers."""

    request_id: str
    body_hash: bytes


class Ledger:
    """The ledger of a cell."""

    def __init__(self, cell: Cell, records: Records, clock: Clock) -> None:
        self._cell = cell
        self._records = records
        self._clock = clock
        self._recent: dict[Place, None] = {}

    async def get(self, place: Place, epoch: bytes | None = None) -> Entered:
        """The record as it stands. Raises Unavailable, DataLoss."""
        reply = await self._cell.call_under(epoch, "entered", [self._key(place)])
        _, value, version, sequence = reply
        with decoding():
            return Entered(read(value), int(version), int(sequence))

    async def put(
        self,
        place: Place,
        seen: int,
        state: events_pb2.StateRecord | None,
        request: Request | None = None,
        news: Message | None = None,
    ) -> int:
        """Writes the version after `seen`, with what is published of it; None ends the record, with
        `news` for an event.

        Raises:
            Lost: it is not at `seen` any more.
            Taken: the request was answered in the meantime.
            Unavailable.
        """
        keys, name = [self._key(place), self._names(place.kind)], f"{place.tenant}/{place.name}"
        value = state.SerializeToString() if state else b""
        entry = self._entry(place, seen + 1, value, news)
        args: list[Argument] = [seen, seen + 1, value, entry, name]
        if request is not None:
            keys.append(self._cell.key("request", place.tenant, request.request_id))
            args.append(request.body_hash + place.name.encode())
        reply = await self._cell.call("enter", keys, args)
        if reply[0] == b"KNOWN":
            raise Taken(answer(reply[1]))
        return applied(reply)

    async def places(self, kind: str) -> AsyncIterator[Place]:
        """All records of a kind. Raises Unavailable."""
        after = ""
        while True:
            _, *names = await self._cell.call("page", [self._names(kind)], [after, _PAGE])
            for name in names:
                tenant, _, rest = name.decode().partition("/")
                yield Place(kind, tenant, rest)
            if len(names) < _PAGE:
                return
            after = names[-1].decode()

    async def restore(self, records: Sequence[Record], epoch: bytes) -> list[Record]:
        """Restores the ledger's among records of the state topic; the others."""
        others = []
        for record in records:
            place = Place.parse(record.key.decode(errors="replace"))
            if place is None:
                others.append(record)
                continue
            await self._restore(place, record, epoch)
        return others

    async def finish(self, epoch: bytes) -> None:
        """Announces once more what may have reached the state topic and not the events."""
        recent, self._recent = self._recent, {}
        for place in recent:
            found = await self.get(place, epoch)
            if found.version:
                await self._republish(place, found, epoch)

    async def repair(self, place: Place, record: Record) -> bool:
        """See Rebuild: the record is the last of its key on its topic and of an older term."""
        found = await self.get(place)
        value = found.state.SerializeToString() if found.version else None
        if value == record.value:
            return False
        if value is not None:
            await self._republish(place, found)
        else:  # its end: the record came late
            seen = header_int(record.headers, "ce_axversion") + 1
            args: list[Argument] = ["0", self._entry(place, seen, b"")]
            await self._cell.call("republish", [self._key(place)], args)
        return True

    async def _restore(self, place: Place, record: Record, epoch: bytes) -> None:
        version, now = header_int(record.headers, "ce_axversion"), self._clock.epoch_ms()
        keys, value = [self._key(place), self._names(place.kind)], record.value or b""
        args: list[Argument] = [version, value, f"{place.tenant}/{place.name}"]
        state = read(value)
        if state.HasField("erasure"):
            asked = state.erasure
            keys.append(self._cell.key("request", place.tenant, asked.request_id))
            since = now - millis(asked.erasure.create_time)
            args += (asked.body_hash + place.name.encode(), max(0, REMEMBERED_MS - since))
        await self._cell.call_under(epoch, "restore_entered", keys, args)
        if value and record.timestamp_ms > now - REMEMBERED_MS:
            self._recent[place] = None

    async def _republish(self, place: Place, found: Entered, epoch: bytes | None = None) -> None:
        entry = self._entry(place, found.version, found.state.SerializeToString())
        args: list[Argument] = [found.version, entry]
        await self._cell.call_under(epoch, "republish", [self._key(place)], args)

    def _entry(
        self, place: Place, version: int, value: bytes, news: Message | None = None
    ) -> bytes:
        key, now = str(place), self._clock.epoch_ms()
        records = [self._records.made(topics.BINDING_STATE, key, value, now, version)]
        event = news or event_of(read(value), version)
        if event is not None:
            octets = event.SerializeToString()
            made = self._records.made(topics.BINDING_RETENTION, key, octets, now, version)
            made.type = event.DESCRIPTOR.full_name
            made.event_id = f"{key.replace('/', '-')}-{version}"
            records.append(made)
        return outbox_pb2.OutboxEntry(records=records).SerializeToString()

    def _key(self, place: Place) -> str:
        return self._cell.key("ledger", *place)

    def _names(self, kind: str) -> str:
        return self._cell.key("ledger-names", kind)


def read(value: bytes) -> events_pb2.StateRecord:
    """A value of the state topic. Raises Malformed."""
    try:
        return events_pb2.StateRecord.FromString(value)
    except DecodeError:
        raise Malformed("STATE_MALFORMED") from None


def event_of(state: events_pb2.StateRecord, version: int) -> Message | None:
    """What the version is news of; None where it is none."""
    if state.HasField("purge") and state.purge.HasField("purged"):
        return state.purge.purged
    if state.HasField("legal_hold") and state.legal_hold.state != _SETTING:
        return events_pb2.LegalHoldChanged(hold=state.legal_hold, aggregate_version=version)
    erasure = state.erasure.erasure
    if state.HasField("erasure") and erasure.state == retention_pb2.ERASURE_STATE_RESTRICTED:
        _, tenant, _, name = erasure.name.split("/")
        return events_pb2.SubjectRestricted(
            tenant=tenant,
            erasure=name,
            aggregate_version=version,
            restrict_time=erasure.restrict_time,
            erase_time=erasure.erase_time,
            binding_count=erasure.binding_count,
            consent_count=erasure.consent_count,
            secrets=state.erasure.secrets,
        )
    return None
