"""Hands a person's data out (PIPL 45): every event about it that can still be opened and is not
restricted, read from Kafka, sealed to the key that the request names.

Refuses to hand out anything of the other party, and to begin before Kafka has the event that says
so. Invariant: nothing personal leaves here but in a box.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final

from axbridge.binding.v1 import events_pb2, retention_service_pb2
from axbridge.runtime.v1 import outbox_pb2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from services.binding.ledger import Ledger, Place
from services.binding.messages import millis, sealed, timestamp, unsealed
from services.binding.records import Records
from services.binding.store import CellBindings
from services.binding.subject import TOPICS, SubjectEvent, Subjects
from services.binding.vault import KeyedTags
from services.runtime import topics
from services.runtime.aead import Sealed, associated, open_sealed, seal
from services.runtime.cell import Cell
from services.runtime.clock import Clock
from services.runtime.errors import Aborted, InvalidArgument
from services.runtime.keyring import KeyDestroyed
from services.runtime.phone import PhoneNumber
from services.runtime.rebuild import read_to_end
from services.runtime.record import Record
from services.runtime.sealing import PurgeSealer

_PART: Final = 500  # events of one box: about 300 KB
_ACK_SECONDS: Final = 5.0

Take = Callable[[Sequence[Record]], Awaitable[None]]
Read = Callable[[str, Take, int], Awaitable[object]]


class Exports:
    """Exports of one process, one at a time. `read` gives the records of a topic, from a moment on
    (milliseconds since 1970), to a taker."""

    def __init__(
        self,
        cell: Cell,
        bindings: CellBindings,
        ledger: Ledger,
        records: Records,
        tags: KeyedTags,
        sealer: PurgeSealer,
        clock: Clock,
        read: Read,
    ) -> None:
        self._cell = cell
        self._bindings = bindings
        self._ledgers = [ledger]
        self._records = records
        self._tags = tags
        self._sealer = sealer
        self._clock = clock
        self._read = read
        self._subjects = Subjects(sealer)
        self._running = asyncio.Lock()

    def look_in(self, ledgers: Sequence[Ledger]) -> None:
        """Those of a tenant's further cells say what is restricted, too."""
        self._ledgers += ledgers

    async def export(
        self, tenant: str, party: PhoneNumber, name: str, recipient: bytes
    ) -> AsyncIterator[bytes]:
        """The boxes. See ExportSubject."""
        if self._running.locked():
            raise Aborted("EXPORT_RUNNING", "another export runs in this process")
        async with self._running:
            tag = self._tags.party(tenant, party.e164)
            seal_part = sealer_to(recipient, tenant, name)
            events = await self._events(tenant, tag)
            await self._tell(tenant, name, tag, recipient, len(events))
            parts = range(0, max(1, len(events)), _PART)
            for number, start in enumerate(parts):
                data = retention_service_pb2.SubjectData(
                    events=events[start : start + _PART], last=start + _PART >= len(events)
                )
                yield seal_part(number, data.SerializeToString())

    async def _events(self, tenant: str, tag: bytes) -> list[SubjectEvent]:
        restricted = await self._restricted_until(tenant, tag)
        found: dict[str, SubjectEvent] = {}
        for topic, erasable in TOPICS.items():
            since = restricted if erasable else 0

            async def take(records: Sequence[Record], since: int = since) -> None:
                for record in records:
                    event = self._subjects.told(record, tenant, tag)
                    if event is not None and millis(event.time) > since:
                        found[record.envelope.event_id] = event  # once, if published again

            await self._read(topic, take, since)
        return list(found.values())

    async def _restricted_until(self, tenant: str, tag: bytes) -> int:
        """Up to when everything of the person's is restricted; 0: nothing is."""
        latest = 0
        for ledger in self._ledgers:
            async for place in ledger.places("erasure"):
                if place.tenant == tenant:
                    record = (await ledger.get(place)).state.erasure
                    latest = max(latest, self._until(place, record, tag))
        return latest

    def _until(self, place: Place, record: events_pb2.ErasureRecord, tag: bytes) -> int:
        box = unsealed(record.secrets)
        assert box is not None
        try:
            bound = associated("erasure", place.tenant, place.name)
            secrets = events_pb2.SubjectSecrets.FromString(self._sealer.open(box, bound))
        except KeyDestroyed:
            return 0
        if secrets.tag != tag:
            return 0
        # One that is begun: restricted from now on.
        return millis(record.erasure.restrict_time) or self._clock.epoch_ms()

    async def _tell(self, tenant: str, name: str, tag: bytes, recipient: bytes, count: int) -> None:
        now = self._clock.epoch_ms()
        secrets = events_pb2.SubjectSecrets(tag=tag).SerializeToString()
        bound = associated("export", tenant, name)
        event = events_pb2.SubjectExported(
            tenant=tenant, export=name, export_time=timestamp(now),
            recipient=hashlib.sha256(recipient).digest(), event_count=count,
            secrets=sealed(self._sealer.seal(tenant, self._clock.now(), secrets, bound)),
        )  # fmt: skip
        key, value = f"export/{tenant}/{name}", event.SerializeToString()
        record = self._records.made(topics.BINDING_RETENTION, key, value, now, 1)
        record.type = event.DESCRIPTOR.full_name
        record.event_id = f"export-{tenant}-{name}-{now}"
        entry = outbox_pb2.OutboxEntry(records=[record]).SerializeToString()
        reply = await self._cell.call("tell", [], [entry])
        await self._bindings.published(int(reply[1]), _ACK_SECONDS)


def sealer_to(recipient: bytes, tenant: str, name: str) -> Callable[[int, bytes], bytes]:
    """Seals the parts of an export to an X25519 public key, under a key that is used for this one.

    Raises:
        InvalidArgument: INVALID_FIELD: no key that anybody has the private half of.
    """
    private = X25519PrivateKey.generate()
    public = private.public_key().public_bytes_raw()
    try:
        shared = private.exchange(X25519PublicKey.from_public_bytes(recipient))
    except ValueError:  # a point of low order
        raise InvalidArgument(
            "INVALID_FIELD", "a field is missing or malformed", field="recipient_key"
        ) from None
    key = _key(shared, public, recipient)

    def seal_part(number: int, plaintext: bytes) -> bytes:
        box = seal(key, f"export/{name}/{number}", plaintext, _bound(tenant, name, number)).box
        return box[:1] + public + box[1:]

    return seal_part


def open_part(private_key: bytes, tenant: str, name: str, number: int, box: bytes) -> bytes:
    """What the recipient does with a part. Raises SealBroken."""
    private = X25519PrivateKey.from_private_bytes(private_key)
    public = box[1:33]
    shared = private.exchange(X25519PublicKey.from_public_bytes(public))
    key = _key(shared, public, private.public_key().public_bytes_raw())
    sealed_part = Sealed(f"export/{name}/{number}", box[:1] + box[33:])
    return open_sealed(key, sealed_part, _bound(tenant, name, number))


def _key(shared: bytes, public: bytes, recipient: bytes) -> bytes:
    info = b"axbridge/export/v1" + public + recipient
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=info).derive(shared)


def _bound(tenant: str, name: str, number: int) -> bytes:
    return associated("export", tenant, name, number)


def reader_of(bootstrap: str) -> Read:
    """Reads topics to the end that they have now. Raises KafkaException."""
    return lambda topic, take, since_ms: read_to_end(bootstrap, topic, take, since_ms)
