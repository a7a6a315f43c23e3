"""Turns decisions and reports into events and puts them into the journal.

The caller's number goes into the evidence copy and its tag into the sealed part; both are bound to
the event. Refuses to keep a caller whose tenant is not known: there is no key to seal it under.
Invariant: nothing in an event's clear part says who called.
"""

from typing import Protocol

from axbridge.router.v1 import events_pb2

from services.router.domain import TREATMENT, Decision, Progress
from services.router.journal import Journal
from services.router.segments import PROGRESSED, REFUSED, ROUTED
from services.router.translate import write_duration, write_timestamp
from services.runtime.sealing import associated


class Sealer(Protocol):
    """`opener.CallerSealer`."""

    def seal(
        self, tenant: str, time_ms: int, caller: str, tag: bytes, *, call: bytes, event: bytes
    ) -> tuple[str, bytes]: ...


class JournalRecorder:
    """See ports.Recorder."""

    def __init__(self, journal: Journal, sealer: Sealer) -> None:
        self._append, self._seal = journal.append, sealer.seal

    def decided(self, decision: Decision) -> None:
        call = decision.call
        key = f"{call.carrier}/{call.call_id}".encode()
        if decision.refusal is None:
            self._append(ROUTED, decision.time_ms, key, lambda j, s: self._routed(decision, j, s))
        else:
            self._append(REFUSED, decision.time_ms, key, lambda j, s: self._refused(decision, j, s))

    def progressed(self, progress: Progress, time_ms: int) -> None:
        def value(journal: str, sequence: int) -> bytes:
            event = events_pb2.CallProgressed()
            event.leg = progress.leg  # type: ignore[assignment]
            event.sequence = progress.sequence
            event.kind = progress.kind  # type: ignore[assignment]
            write_timestamp(event.event_time, progress.event_ms)
            event.q850_cause = progress.q850_cause
            event.release_side = progress.release_side  # type: ignore[assignment]
            _fill(event.fact, progress.carrier, progress.call_id, journal, sequence, time_ms)
            return event.SerializeToString()

        key = f"{progress.carrier}/{progress.call_id}".encode()
        self._append(PROGRESSED, time_ms, key, value)

    def _routed(self, decision: Decision, journal: str, sequence: int) -> bytes:
        entry = decision.entry
        assert entry is not None  # `decide` connects nobody without one
        event = events_pb2.CallRouted()
        event.calling_side = entry.caller_side  # type: ignore[assignment]
        if entry.max_call_minutes:
            event.max_duration.seconds = 60 * entry.max_call_minutes
        return self._filled(event, decision, journal, sequence)

    def _refused(self, decision: Decision, journal: str, sequence: int) -> bytes:
        refusal = decision.refusal
        assert refusal is not None
        event = events_pb2.CallRefused()
        event.reason = refusal  # type: ignore[assignment]
        event.q850_cause = TREATMENT[refusal][0]
        return self._filled(event, decision, journal, sequence)

    def _filled(
        self,
        event: events_pb2.CallRouted | events_pb2.CallRefused,
        decision: Decision,
        journal: str,
        sequence: int,
    ) -> bytes:
        """The event with what both kinds say."""
        call, entry = decision.call, decision.entry
        _fill(event.fact, call.carrier, call.call_id, journal, sequence, decision.time_ms)
        event.number = decision.number
        event.trunk = call.trunk
        write_duration(event.view_age, decision.age_ms)
        if decision.tenant:
            binding = event.binding
            binding.tenant = decision.tenant
            if entry is not None:
                binding.binding, binding.version = entry.binding, entry.version
                binding.industry_id = entry.industry_id
            if decision.caller:
                secrets = event.secrets
                secrets.key_id, secrets.box = self._seal(
                    decision.tenant, decision.time_ms, decision.caller, decision.tag,
                    call=caller_associated(call.carrier, call.call_id),
                    event=event_associated(call.carrier, call.call_id, journal, sequence),
                )  # fmt: skip
        return event.SerializeToString()


def caller_associated(carrier: str, call_id: str) -> bytes:
    """What the evidence copy of a caller is bound to: its call, so that the record takes it over
    from the event as it is."""
    return associated("call-caller", carrier, call_id)


def event_associated(carrier: str, call_id: str, journal: str, sequence: int) -> bytes:
    """What the sealed part of a call event is bound to."""
    return associated("call-event", carrier, call_id, journal, sequence)


def _fill(
    fact: events_pb2.CallFact,
    carrier: str,
    call_id: str,
    journal: str,
    sequence: int,
    time_ms: int,
) -> None:
    fact.carrier, fact.call_id = carrier, call_id
    fact.journal, fact.journal_sequence = journal, sequence
    write_timestamp(fact.time, time_ms)
