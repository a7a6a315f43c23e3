"""Puts decisions and reports into the journal.

A decision is packed and sealed in one go, under the journal's own key; a report, which says nothing
of who called, is an event already. Invariant: when it returns, what was decided is in the journal.
"""

from axbridge.router.v1 import events_pb2
from axbridge.type.v1 import sealed_pb2

from services.router.domain import Decision, LastCaller, Progress
from services.router.journal import Journal
from services.router.packed import JournalCipher, pack
from services.router.segments import (
    CALLED,
    MESSAGE_REFUSED,
    MESSAGE_ROUTED,
    PROGRESSED,
    REFUSED,
    ROUTED,
)
from services.router.texts import Text
from services.router.translate import timestamp, write_timestamp


class JournalRecorder:
    """See ports.Recorder. `cipher` is that of the journal's name."""

    def __init__(self, journal: Journal, cipher: JournalCipher) -> None:
        self._append, self._append_sealed = journal.append, journal.append_sealed
        self._encrypt = cipher.encrypt

    def decided(self, decision: Decision) -> None:
        key, packed = pack(decision)
        kind = ROUTED if decision.refusal is None else REFUSED
        self._append_sealed(kind, decision.time_ms, key, packed, self._encrypt)

    def messaged(self, decision: Decision, text: Text) -> None:
        key, packed = pack(decision)
        kind = MESSAGE_ROUTED if decision.refusal is None else MESSAGE_REFUSED
        value = bytes((text.encoding, text.parts)) + packed
        self._append_sealed(kind, decision.time_ms, key, value, self._encrypt)

    def called(self, last: LastCaller) -> None:
        message = events_pb2.LastCaller(
            tenant=last.tenant, binding=last.binding, number=last.number,
            time=timestamp(last.time_ms), expire_time=timestamp(last.expire_ms),
            caller=sealed_pb2.Sealed(key_id=last.key_id, box=last.box),
        )  # fmt: skip
        value = message.SerializeToString()
        key = f"{last.number}/{last.binding}".encode()
        self._append(CALLED, last.time_ms, key, lambda _journal, _sequence: value)

    def progressed(self, progress: Progress, time_ms: int) -> None:
        def value(journal: str, sequence: int) -> bytes:
            event = events_pb2.CallProgressed()
            event.leg = progress.leg  # type: ignore[assignment]
            event.sequence = progress.sequence
            event.kind = progress.kind  # type: ignore[assignment]
            write_timestamp(event.event_time, progress.event_ms)
            event.q850_cause = progress.q850_cause
            event.release_side = progress.release_side  # type: ignore[assignment]
            fact = event.fact
            fact.carrier, fact.call_id = progress.carrier, progress.call_id
            fact.journal, fact.journal_sequence = journal, sequence
            write_timestamp(fact.time, time_ms)
            return event.SerializeToString()

        key = f"{progress.carrier}/{progress.call_id}".encode()
        self._append(PROGRESSED, time_ms, key, value)
