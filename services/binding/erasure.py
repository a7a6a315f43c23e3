"""A person's request for deletion inside the retention window (PIPL 47, R17).

First the ledger says that the person is being restricted, then its consents are over, so that
nothing new rests on them, then each of its bindings is, then the ledger says that it is done, with
an event. Dying between leaves an entry that the request repeated,
or the owner's round, brings to its end; each step may be repeated. Refuses to unseal anything: the
copies that are kept die with their bucket. Entries of blacklists stay (docs/design/blacklists.md).

Invariant: an erasure that is answered as RESTRICTED left no consent of the person's that had been
answered before it was asked for, and no binding that had, or that rests on such a consent.
"""

import asyncio
from collections.abc import Set
from datetime import UTC, datetime
from typing import Final

from axbridge.binding.v1 import events_pb2, retention_pb2

from services.binding.consentstore import CellConsents
from services.binding.domain import erased
from services.binding.ledger import Ledger, Place, Request
from services.binding.messages import millis, sealed, unsealed
from services.binding.ports import Answer, Ids, Index, Lost, Taken
from services.binding.store import CellBindings
from services.binding.vault import KeyedTags
from services.runtime.clock import Clock
from services.runtime.errors import AlreadyExists, AxbridgeError, NotFound
from services.runtime.jobs import repeated
from services.runtime.phone import PhoneNumber
from services.runtime.sealing import (
    PurgeSealer,
    associated,
    bucket_month,
    month_begin,
    purge_key_id,
)
from services.runtime.telemetry import logger

_PAGE: Final = 500
_ACK_SECONDS: Final = 5.0
_EVERY_SECONDS: Final = 30.0
_LOG: Final = logger(__name__)
_RESTRICTED: Final = retention_pb2.ERASURE_STATE_RESTRICTED


class Erasures:
    """The erasures of a cell."""

    def __init__(
        self,
        bindings: CellBindings,
        consents: CellConsents,
        ledger: Ledger,
        tags: KeyedTags,
        sealer: PurgeSealer,
        ids: Ids,
        clock: Clock,
    ) -> None:
        self._bindings = bindings
        self._consents = consents
        self._ledger = ledger
        self._tags = tags
        self._sealer = sealer
        self._ids = ids
        self._clock = clock

    async def run(self) -> None:
        """Brings to their end the erasures that somebody began, until cancelled."""
        await repeated(
            self.resume, bears=(AxbridgeError, Lost), told=_LOG.warning,
            event="erasures wait", every_seconds=_EVERY_SECONDS, retry_seconds=_EVERY_SECONDS,
        )  # fmt: skip

    async def resume(self) -> None:
        """Ends what is begun. Raises Unavailable; Lost: another process does."""
        async for place in self._ledger.places("erasure"):
            await self._finish(place)

    async def erase(
        self, tenant: str, party: PhoneNumber, request_id: str
    ) -> retention_pb2.Erasure:
        """Restricts everything of the person's. See EraseSubject."""
        body = self._tags.body(tenant, f"erase\x1f{party.e164}")
        answer = await self._bindings.answered(tenant, request_id)
        if answer is None:
            place = Place("erasure", tenant, self._ids.new())
            now = self._clock.epoch_ms()
            state = self._state(place, self._tags.party(tenant, party.e164), self._clock.now())
            record = state.erasure
            record.request_id, record.body_hash = request_id, body
            record.erasure.create_time.FromMilliseconds(now)
            record.erasure.state = retention_pb2.ERASURE_STATE_RESTRICTING
            try:
                await self._ledger.put(place, 0, state, Request(request_id, body))
            except Taken as twin:
                answer = twin.answer
        if answer is not None:
            place = self._place(tenant, answer, body)
        try:
            return await self._finish(place)
        except Lost:  # the owner's round is at it too: what it wrote is the answer
            return await self._finish(place)

    @staticmethod
    def _place(tenant: str, answer: Answer, body: bytes) -> Place:
        if answer.body_hash != body:
            raise AlreadyExists("REQUEST_ID_REUSED", "the request id came with another body")
        return Place("erasure", tenant, answer.binding)

    async def _finish(self, place: Place) -> retention_pb2.Erasure:
        entered = await self._ledger.get(place)
        if not entered.version:
            raise NotFound("ERASURE_NOT_FOUND", "no such erasure", erasure=place.name)
        record = entered.state.erasure
        if record.erasure.state == _RESTRICTED:
            await self._bindings.published(entered.sequence, _ACK_SECONDS)
            return record.erasure
        box = unsealed(record.secrets)
        assert box is not None
        place_of_box = associated("erasure", place.tenant, place.name)
        tag = events_pb2.SubjectSecrets.FromString(self._sealer.open(box, place_of_box)).tag
        asked = millis(record.erasure.create_time)
        consents, last = await self._consents.erase(
            place.tenant, tag, asked, self._clock.epoch_ms()
        )
        count, month = await self._restrict(place.tenant, tag, asked, set(consents))
        month = max(month, bucket_month(box.key_id))
        if consents:
            month = max(month, self._month(place.tenant, last))
        # Kept as long as anything of the person's: who is erased has to be known till then.
        end = month_begin(month - self._sealer.months)
        state = self._state(place, tag, end)
        done = state.erasure
        done.request_id, done.body_hash = record.request_id, record.body_hash
        done.erasure.create_time.CopyFrom(record.erasure.create_time)
        done.erasure.restrict_time.FromMilliseconds(self._clock.epoch_ms())
        done.erasure.erase_time.FromDatetime(month_begin(month + 1))
        done.erasure.binding_count, done.erasure.consent_count = count, len(consents)
        done.erasure.state = _RESTRICTED
        sequence = await self._ledger.put(place, entered.version, state)
        await self._bindings.published(sequence, _ACK_SECONDS)
        return done.erasure

    def _month(self, tenant: str, end_ms: int) -> int:
        """The month of the bucket of what ends then."""
        end = datetime.fromtimestamp(end_ms / 1000, UTC)
        return bucket_month(purge_key_id(tenant, end, self._sealer.months))

    async def _restrict(
        self, tenant: str, tag: bytes, asked_ms: int, consents: Set[str]
    ) -> tuple[int, int]:
        """Restricts all bindings in the index; how many are, and the month of the last bucket."""
        index, after, count, month = Index("party", tag.hex()), "", 0, 0
        while True:
            ids = await self._bindings.page(tenant, index, after, _PAGE)
            for found in await asyncio.gather(
                *(self._one(each, asked_ms, consents) for each in ids)
            ):
                count += found > 0
                month = max(month, found)
            if len(ids) < _PAGE:
                return count, month
            after = ids[-1]

    async def _one(self, binding: str, asked_ms: int, consents: Set[str]) -> int:
        """The month of the bucket of a binding that is restricted now; 0: there is none."""
        while True:
            stored = await self._bindings.get(binding)
            if stored is None:  # forgotten meanwhile
                return 0
            rests = {stored.binding.consent_a, stored.binding.consent_b} & consents
            if stored.binding.create_ms > asked_ms and not rests:
                return 0  # made on a new consent
            month = bucket_month(self._bindings.bucket(stored.binding))
            if stored.binding.restricted:
                return month
            new = erased(stored.binding, self._clock.epoch_ms())
            try:
                await self._bindings.restrict(stored, new)
            except Lost:
                continue
            return month

    def _state(self, place: Place, tag: bytes, end: datetime) -> events_pb2.StateRecord:
        secrets = events_pb2.SubjectSecrets(tag=tag).SerializeToString()
        bound = associated("erasure", place.tenant, place.name)
        return events_pb2.StateRecord(
            erasure=events_pb2.ErasureRecord(
                erasure=retention_pb2.Erasure(name=f"tenants/{place.tenant}/erasures/{place.name}"),
                secrets=sealed(self._sealer.seal(place.tenant, end, secrets, bound)),
            )
        )
