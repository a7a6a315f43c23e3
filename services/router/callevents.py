"""Call events as facts, and records as events: the edge between protobuf and the fold.

A sealed part that does not open is refused at the door (the event is parked), so that a record
never lacks one silently. Invariant: the sealed part of a record is sealed anew, to the record and
to the end of the call, by which its retention counts.
"""

from datetime import UTC, datetime
from typing import Final

from axbridge.router.v1 import events_pb2
from axbridge.type.v1 import sealed_pb2
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from services.router.callfold import ANSWERED, CallRecord, DecisionFact, Fact, ProgressFact
from services.router.events import event_associated
from services.router.segments import KINDS, PROGRESSED, REFUSED, ROUTED
from services.router.translate import duration, timestamp
from services.runtime.errors import Malformed
from services.runtime.keyring import KeyDestroyed
from services.runtime.record import Record
from services.runtime.sealing import PurgeSealer, SealBroken, Sealed, associated

_YEAR_2000: Final = 946_684_800
_YEAR_2100: Final = 4_102_444_800
_KIND_OF: Final = {name: kind for kind, name in enumerate(KINDS[:3])}


class CallEvents:
    """Decodes and encodes with one purge sealer."""

    def __init__(self, purge: PurgeSealer) -> None:
        self._purge = purge

    def decode(self, record: Record) -> Fact | None:
        """The fact in a record of `router.calls.v1`; None: it is of a short message, which has no
        record beside its event.

        Raises:
            Malformed: CALL_EVENT_MALFORMED, CALL_EVENT_UNKNOWN or CALL_SECRETS_BROKEN.
        """
        kind = _KIND_OF.get(record.envelope.type)
        if kind is None or record.value is None:
            raise Malformed("CALL_EVENT_UNKNOWN")
        carrier, call_id = split_key(record.key)
        if kind != PROGRESSED and _is_message(record.value):
            return None
        fact, its_carrier, its_call = fact_of(kind, record.value)
        if (its_carrier, its_call) != (carrier, call_id):
            raise Malformed("CALL_EVENT_MALFORMED")
        if isinstance(fact, DecisionFact):
            self._opened(carrier, call_id, fact)
        return fact

    def _opened(self, carrier: str, call_id: str, fact: DecisionFact) -> bytes | None:
        if fact.secrets is None:
            return None
        bound = event_associated(carrier, call_id, fact.journal, fact.journal_sequence)
        try:
            return self._purge.open(Sealed(*fact.secrets), bound)
        except KeyDestroyed:  # erased: the record goes without
            return None
        except SealBroken:
            raise Malformed("CALL_SECRETS_BROKEN") from None

    def encode(
        self, carrier: str, call_id: str, sequence: int, fact: DecisionFact, record: CallRecord
    ) -> bytes:
        """The value of a CallRecorded."""
        event = events_pb2.CallRecorded(
            carrier=carrier, call_id=call_id, sequence=sequence, number=fact.number,
            calling_side=fact.side, outcome=record.outcome, refusal_reason=fact.reason,  # type: ignore[arg-type]
            call_time=timestamp(record.call_ms), q850_cause=record.q850_cause,
            release_side=record.release_side, trunk=fact.trunk,  # type: ignore[arg-type]
        )  # fmt: skip
        if fact.tenant:
            event.binding.tenant, event.binding.binding = fact.tenant, fact.binding
            event.binding.version, event.binding.industry_id = fact.version, fact.industry_id
        for name, value in (
            ("ring_time", record.ring_ms),
            ("answer_time", record.answer_ms),
            ("end_time", record.end_ms),
        ):
            if value:
                getattr(event, name).CopyFrom(timestamp(value))
        if record.outcome == ANSWERED:
            event.duration.CopyFrom(duration(max(0, record.end_ms - record.answer_ms)))
        secrets = self._opened(carrier, call_id, fact)
        if secrets is not None:
            end = datetime.fromtimestamp((record.end_ms or record.call_ms) / 1000, UTC)
            bound = associated("call-record", carrier, call_id, sequence)
            sealed = self._purge.seal(fact.tenant, end, secrets, bound)
            event.secrets.CopyFrom(sealed_pb2.Sealed(key_id=sealed.key_id, box=sealed.box))
        return event.SerializeToString()


def _is_message(value: bytes) -> bool:
    try:  # both kinds of decisions have it in the same place
        return events_pb2.CallRouted.FromString(value).HasField("message")
    except DecodeError:
        return False  # and what it is instead is said by `fact_of`


def split_key(key: bytes) -> tuple[str, str]:
    """Carrier and call id of a record's key."""
    carrier, slash, call_id = key.decode("ascii", "replace").partition("/")
    if not (carrier and slash and call_id and key.isascii() and len(key) <= 161):
        raise Malformed("CALL_EVENT_MALFORMED")
    return carrier, call_id


def fact_of(kind: int, value: bytes) -> tuple[Fact, str, str]:
    """The fact in an event's value, with its carrier and call id."""
    raw = bytes([kind]) + value
    try:
        if kind == PROGRESSED:
            return _progress(events_pb2.CallProgressed.FromString(value), raw)
        if kind == ROUTED:
            routed = events_pb2.CallRouted.FromString(value)
            return _decision(routed, raw, side=routed.calling_side, reason=0, cause=0)
        if kind == REFUSED:
            refused = events_pb2.CallRefused.FromString(value)
            return _decision(refused, raw, side=0, reason=refused.reason, cause=refused.q850_cause)
    except DecodeError:
        pass
    raise Malformed("CALL_EVENT_MALFORMED")


def _decision(
    event: events_pb2.CallRouted | events_pb2.CallRefused,
    raw: bytes,
    *,
    side: int,
    reason: int,
    cause: int,
) -> tuple[Fact, str, str]:
    fact, binding, sealed = event.fact, event.binding, event.secrets
    secrets = (sealed.key_id, sealed.box) if event.HasField("secrets") else None
    decision = DecisionFact(
        _ms(fact.time), fact.journal, fact.journal_sequence, reason == 0, event.number,
        binding.tenant, binding.binding, binding.version, binding.industry_id, side, reason,
        cause, event.trunk, secrets, raw,
    )  # fmt: skip
    return decision, fact.carrier, fact.call_id


def _progress(event: events_pb2.CallProgressed, raw: bytes) -> tuple[Fact, str, str]:
    fact = event.fact
    progress = ProgressFact(
        _ms(fact.time), fact.journal, fact.journal_sequence, event.leg, event.sequence, event.kind,
        _ms(event.event_time), event.q850_cause, event.release_side, raw,
    )  # fmt: skip
    return progress, fact.carrier, fact.call_id


def _ms(moment: Timestamp) -> int:
    """Milliseconds since 1970; no call of ours lies outside this century."""
    if not _YEAR_2000 <= moment.seconds < _YEAR_2100:
        raise Malformed("CALL_EVENT_MALFORMED")
    return moment.seconds * 1000 + moment.nanos // 1_000_000
