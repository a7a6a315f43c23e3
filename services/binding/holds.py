"""Legal holds: what there is of some bindings, kept for a case beyond its retention.

The ledger first takes the hold in (no bucket of the tenant ends until it is set), then what the
bucket's key opens of each binding's newest event is sealed anew under the case's key, then the
ledger says that it is set. Repeating the request, or the owner's round, brings to its end what was
begun. The evidence copy stays closed: beside it stands the ring's half of its key, which is of that
copy alone (`sealing.record_key`), so the bucket dies for all others.

Refuses to set a case again whose key was destroyed. Invariant: the case's key is destroyed only
after a release, and after the buckets of all that was held have ended.
"""

from collections.abc import Sequence
from datetime import UTC
from typing import Any, Final

from axbridge.binding.v1 import events_pb2, retention_pb2
from confluent_kafka import KafkaException
from google.protobuf.message import DecodeError

from services.binding.export import Read
from services.binding.ledger import Ledger, Place
from services.binding.messages import sealed, timestamp, unsealed
from services.binding.ports import Lost
from services.binding.store import CellBindings
from services.runtime import topics
from services.runtime.aead import SealBroken, associated, seal
from services.runtime.clock import Clock
from services.runtime.envelope import parse
from services.runtime.errors import (
    AlreadyExists,
    AxbridgeError,
    FailedPrecondition,
    Malformed,
    NotFound,
)
from services.runtime.ids import made_ms
from services.runtime.jobs import repeated
from services.runtime.keyring import KeyDestroyed, KeyRing
from services.runtime.record import Record
from services.runtime.sealing import (
    PurgeSealer,
    bucket_month,
    evidence_bucket,
    month_begin,
    record_key,
)
from services.runtime.telemetry import logger

_ACK_SECONDS: Final = 5.0
_EVERY_SECONDS: Final = 300.0
_SETTING: Final = retention_pb2.LEGAL_HOLD_STATE_SETTING
_SET: Final = retention_pb2.LEGAL_HOLD_STATE_SET
_RELEASED: Final = retention_pb2.LEGAL_HOLD_STATE_RELEASED
_SKEW_MS: Final = 60_000
_EVENTS: Final[dict[str, Any]] = {
    kind.DESCRIPTOR.full_name: kind
    for kind in (events_pb2.BindingCreated, events_pb2.BindingUpdated, events_pb2.BindingReleased)
}
_LOG: Final = logger(__name__)


class Holds:
    """The holds of a cell; `read` as of an export."""

    def __init__(
        self,
        bindings: CellBindings,
        ledger: Ledger,
        sealer: PurgeSealer,
        keyring: KeyRing,
        clock: Clock,
        read: Read,
    ) -> None:
        self._bindings = bindings
        self._ledger = ledger
        self._sealer = sealer
        self._keyring = keyring
        self._clock = clock
        self._read = read

    async def run(self) -> None:
        """Brings to their end the holds that were begun, and ends those that are over, until
        cancelled."""
        await repeated(
            self.round, bears=(AxbridgeError, KafkaException, Lost), told=_LOG.warning,
            event="legal holds wait", every_seconds=_EVERY_SECONDS, retry_seconds=_EVERY_SECONDS,
        )  # fmt: skip

    async def round(self) -> None:
        """All of that, once. Raises Unavailable, KafkaException; Lost: another process does it."""
        async for place in self._ledger.places("case"):
            entered = await self._ledger.get(place)
            hold = entered.state.legal_hold
            if hold.state == _SETTING:
                await self._finish(place)
            elif hold.state == _RELEASED and self._over(hold):
                await self._end(place, entered.version)

    async def keep(
        self, tenant: str, case: str, reference: str, bindings: Sequence[str]
    ) -> retention_pb2.LegalHold:
        """Holds what there is of the bindings (ids). See SetLegalHold."""
        place, names = Place("case", tenant, case), [_name(tenant, each) for each in bindings]
        entered = await self._ledger.get(place)
        if not entered.version:
            try:
                self._keyring.derive(str(place), b"seal/v1")
            except KeyDestroyed:
                raise _exists(case) from None
            hold = retention_pb2.LegalHold(
                name=f"tenants/{tenant}/legalHolds/{case}", state=_SETTING, reference=reference,
                bindings=names, create_time=timestamp(self._clock.epoch_ms()),
            )  # fmt: skip
            try:
                await self._ledger.put(place, 0, events_pb2.StateRecord(legal_hold=hold))
            except Lost:
                hold = (await self._ledger.get(place)).state.legal_hold
        else:
            hold = entered.state.legal_hold
        if hold.reference != reference or list(hold.bindings) != names or hold.state == _RELEASED:
            raise _exists(case)
        return await self._finish(place)

    async def release(self, tenant: str, case: str) -> retention_pb2.LegalHold:
        """The case is over. See ReleaseLegalHold. Raises Lost: another changes it just now."""
        place = Place("case", tenant, case)
        entered = await self._ledger.get(place)
        hold, sequence = entered.state.legal_hold, entered.sequence
        if not entered.version:
            raise NotFound("CASE_NOT_FOUND", "no such legal hold", case=case)
        if hold.state == _SETTING:
            raise FailedPrecondition("CASE_SETTING", "the hold is not set yet", case=case)
        if hold.state == _SET:
            hold.state = _RELEASED
            hold.release_time.FromMilliseconds(self._clock.epoch_ms())
            state = events_pb2.StateRecord(legal_hold=hold)
            sequence = await self._ledger.put(place, entered.version, state)
        await self._bindings.published(sequence, _ACK_SECONDS)
        return hold

    async def _finish(self, place: Place) -> retention_pb2.LegalHold:
        entered = await self._ledger.get(place)
        hold, sequence = entered.state.legal_hold, entered.sequence
        if hold.state == _SETTING:
            wanted = {each.rpartition("/")[2] for each in hold.bindings}
            newest = await self._newest(place.tenant, wanted)
            month = 0
            for binding, message in newest.items():
                month = max(month, await self._hold(place, binding, message))
            missing = sorted(wanted - newest.keys())
            hold.missing.extend(_name(place.tenant, each) for each in missing)
            hold.retention_end_time.FromDatetime(month_begin(month + 1) if month else _NEVER)
            hold.state = _SET
            state = events_pb2.StateRecord(legal_hold=hold)
            sequence = await self._ledger.put(place, entered.version, state)
        await self._bindings.published(sequence, _ACK_SECONDS)
        return hold

    async def _newest(self, tenant: str, wanted: set[str]) -> dict[str, Any]:
        """The newest event of each binding whose sealed part can be opened and held."""
        found: dict[str, Any] = {}

        async def take(records: Sequence[Record]) -> None:
            for record in records:
                message = _event(record)
                if message is None or message.fact.tenant != tenant:
                    continue
                binding, version = message.fact.binding, message.fact.aggregate_version
                if binding not in wanted or not self._openable(message):
                    continue
                before = found.get(binding)
                if before is None or before.fact.aggregate_version < version:
                    found[binding] = message

        # Nothing of a binding is older than its id: two clocks may differ by seconds.
        since = min(made_ms(each) for each in wanted)
        await self._read(topics.BINDING_BINDINGS.name, take, max(0, since - _SKEW_MS))
        return found

    def _openable(self, message: Any) -> bool:
        try:
            self._content(message)
        except (KeyDestroyed, SealBroken, DecodeError):
            return False
        return True

    def _content(self, message: Any) -> tuple[events_pb2.HeldContent, int]:
        """What is held of an event, and the month of its last bucket."""
        fact, box = message.fact, unsealed(message.secrets)
        if box is None:
            raise DecodeError
        bound = associated("binding-event", fact.tenant, fact.binding, fact.aggregate_version)
        secrets = events_pb2.BindingSecrets.FromString(self._sealer.open(box, bound))
        content, month = events_pb2.HeldContent(fact=fact, secrets=secrets), 0
        evidence = unsealed(secrets.evidence)
        if evidence is not None:
            bucket = evidence_bucket(evidence)
            place = associated("binding-evidence", fact.tenant, fact.binding)
            content.evidence_key = record_key(self._keyring, bucket, place)
            month = bucket_month(bucket)
        return content, max(month, bucket_month(box.key_id))

    async def _hold(self, case: Place, binding: str, message: Any) -> int:
        content, month = self._content(message)
        place = Place("held", case.tenant, f"{case.name}.{binding}")
        if not (await self._ledger.get(place)).version:  # else done before a crash
            key, name = self._keyring.derive(str(case), b"seal/v1"), str(case)
            bound = associated("held", case.tenant, case.name, binding)
            suite = self._keyring.suite(case.tenant)
            box = seal(key, name, content.SerializeToString(), bound, suite)
            record = events_pb2.HeldRecord(
                tenant=case.tenant, case=case.name, binding=binding, content=sealed(box)
            )
            await self._ledger.put(place, 0, events_pb2.StateRecord(held=record))
        return month

    def _over(self, hold: retention_pb2.LegalHold) -> bool:
        return self._clock.now() >= hold.retention_end_time.ToDatetime(UTC)

    async def _end(self, case: Place, version: int) -> None:
        """The key first, then the records, then the case with its event: each may be repeated."""
        self._keyring.destroy(str(case))
        count, prefix = 0, f"{case.name}."
        async for place in self._ledger.places("held"):
            if place.tenant == case.tenant and place.name.startswith(prefix):
                await self._ledger.put(place, (await self._ledger.get(place)).version, None)
                count += 1
        ended = events_pb2.LegalHoldEnded(
            tenant=case.tenant, case=case.name, end_time=timestamp(self._clock.epoch_ms()),
            held_count=count,
        )  # fmt: skip
        sequence = await self._ledger.put(case, version, None, news=ended)
        await self._bindings.published(sequence, _ACK_SECONDS)


_NEVER: Final = month_begin(1970 * 12)  # nothing is held


def _event(record: Record) -> Any:
    try:
        kind = _EVENTS.get(parse(record.headers).type)
        return kind.FromString(record.value) if kind and record.value is not None else None
    except (Malformed, DecodeError):
        return None


def _name(tenant: str, binding: str) -> str:
    return f"tenants/{tenant}/bindings/{binding}"


def _exists(case: str) -> AlreadyExists:
    return AlreadyExists("CASE_EXISTS", "the case holds something else or is over", case=case)
