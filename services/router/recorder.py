"""Turns decisions and reports into events and puts them into the journal.

The caller's number goes into the evidence copy and its tag into the sealed part; both are bound to
the event. Refuses to keep a caller whose tenant is not known: there is no key to seal it under.
Invariant: nothing in an event's clear part says who called.
"""

from datetime import UTC, datetime
from typing import Final, Protocol

from axbridge.router.v1 import events_pb2
from axbridge.type.v1 import sealed_pb2

from services.router.domain import TREATMENT, Decision, Progress
from services.router.journal import Journal
from services.router.segments import PROGRESSED, REFUSED, ROUTED
from services.router.translate import duration, timestamp
from services.runtime.sealing import Sealed, associated


class Seals(Protocol):
    """`PurgeSealer` and `EvidenceWriter` alike."""

    def seal(self, tenant: str, end: datetime, plaintext: bytes, associated: bytes) -> Sealed: ...


_UTC: Final = UTC
_CallFact, _CallBinding = events_pb2.CallFact, events_pb2.CallBinding


class JournalRecorder:
    """See ports.Recorder."""

    def __init__(self, journal: Journal, purge: Seals, evidence: Seals) -> None:
        self._append = journal.append
        self._seal, self._seal_evidence = purge.seal, evidence.seal

    def decided(self, decision: Decision) -> None:
        call = decision.call
        key = f"{call.carrier}/{call.call_id}".encode()
        if decision.refusal is None:
            self._append(ROUTED, decision.time_ms, key, lambda j, s: self._routed(decision, j, s))
        else:
            self._append(REFUSED, decision.time_ms, key, lambda j, s: self._refused(decision, j, s))

    def progressed(self, progress: Progress, time_ms: int) -> None:
        def value(journal: str, sequence: int) -> bytes:
            return events_pb2.CallProgressed(
                fact=_fact(progress.carrier, progress.call_id, journal, sequence, time_ms),
                leg=progress.leg,  # type: ignore[arg-type]
                sequence=progress.sequence,
                kind=progress.kind,  # type: ignore[arg-type]
                event_time=timestamp(progress.event_ms),
                q850_cause=progress.q850_cause,
                release_side=progress.release_side,  # type: ignore[arg-type]
            ).SerializeToString()

        key = f"{progress.carrier}/{progress.call_id}".encode()
        self._append(PROGRESSED, time_ms, key, value)

    def _routed(self, decision: Decision, journal: str, sequence: int) -> bytes:
        call, entry = decision.call, decision.entry
        assert entry is not None  # `decide` connects nobody without one
        event = events_pb2.CallRouted(
            fact=_fact(call.carrier, call.call_id, journal, sequence, decision.time_ms),
            number=decision.number,
            binding=_CallBinding(
                tenant=entry.tenant,
                binding=entry.binding,
                version=entry.version,
                industry_id=entry.industry_id,
            ),
            calling_side=entry.caller_side,  # type: ignore[arg-type]
            trunk=call.trunk,
            view_age=duration(decision.age_ms),
            secrets=self._secrets(decision, journal, sequence),
        )
        if entry.max_call_minutes:
            event.max_duration.seconds = 60 * entry.max_call_minutes
        return event.SerializeToString()

    def _refused(self, decision: Decision, journal: str, sequence: int) -> bytes:
        call, entry, refusal = decision.call, decision.entry, decision.refusal
        assert refusal is not None
        binding = _CallBinding(tenant=decision.tenant)
        if entry is not None:
            binding.binding, binding.version = entry.binding, entry.version
            binding.industry_id = entry.industry_id
        return events_pb2.CallRefused(
            fact=_fact(call.carrier, call.call_id, journal, sequence, decision.time_ms),
            number=decision.number,
            binding=binding if decision.tenant else None,
            reason=refusal,  # type: ignore[arg-type]
            q850_cause=TREATMENT[refusal][0],
            trunk=call.trunk,
            view_age=duration(decision.age_ms),
            secrets=self._secrets(decision, journal, sequence),
        ).SerializeToString()

    def _secrets(self, decision: Decision, journal: str, sequence: int) -> sealed_pb2.Sealed | None:
        if not (decision.tenant and decision.caller):
            return None
        call = decision.call
        end = datetime.fromtimestamp(decision.time_ms / 1000, _UTC)
        evidence = self._seal_evidence(
            decision.tenant,
            end,
            decision.caller.encode(),
            caller_associated(call.carrier, call.call_id),
        )
        secrets = events_pb2.CallSecrets(
            caller_tag=decision.tag,
            caller_evidence=sealed_pb2.Sealed(key_id=evidence.key_id, box=evidence.box),
        )
        bound = event_associated(call.carrier, call.call_id, journal, sequence)
        sealed = self._seal(decision.tenant, end, secrets.SerializeToString(), bound)
        return sealed_pb2.Sealed(key_id=sealed.key_id, box=sealed.box)


def caller_associated(carrier: str, call_id: str) -> bytes:
    """What the evidence copy of a caller is bound to: its call, so that the record takes it over
    from the event as it is."""
    return associated("call-caller", carrier, call_id)


def event_associated(carrier: str, call_id: str, journal: str, sequence: int) -> bytes:
    """What the sealed part of a call event is bound to."""
    return associated("call-event", carrier, call_id, journal, sequence)


def _fact(
    carrier: str, call_id: str, journal: str, sequence: int, time_ms: int
) -> events_pb2.CallFact:
    return _CallFact(
        carrier=carrier,
        call_id=call_id,
        journal=journal,
        journal_sequence=sequence,
        time=timestamp(time_ms),
    )
