"""Decisions and reports in the journal, without a word about who called in clear."""

from axbridge.router.v1 import events_pb2

from services.router.domain import LastCaller, Progress, Refusal
from services.router.lastcalls import LastCall
from services.router.packed import JournalCipher, pack
from services.router.recorder import JournalRecorder
from services.router.segments import CALLED, KINDS, PROGRESSED, REFUSED, ROUTED
from services.router.subscriber import decode_caller
from services.router.view import Copy
from services.runtime.keyring import MemoryKeyRing
from services.runtime.record import Record
from tests.unit.router.decisions import NOW, NUMBER, A, B, decision
from tests.unit.router.journals import MemoryJournal


def recorder() -> tuple[JournalRecorder, MemoryJournal, JournalCipher]:
    journal = MemoryJournal()
    cipher = JournalCipher(MemoryKeyRing(), journal.name)
    return JournalRecorder(journal, cipher), journal, cipher  # type: ignore[arg-type]


def test_a_decision_is_kept_whole_and_sealed() -> None:
    record, journal, cipher = recorder()
    refused = decision(Refusal.EXPIRED)
    record.decided(decision())
    record.decided(refused)
    first, second = journal.written
    assert first[:4] == (1, NOW, ROUTED, b"cmcc/c1")
    assert second[:4] == (2, NOW, REFUSED, b"cmcc/c1")
    assert (first.key, cipher.open(1, first.value, first.key)) == pack(decision())
    assert (second.key, cipher.open(2, second.value, second.key)) == pack(refused)
    for secret in (A[3:].encode(), B[3:].encode(), NUMBER.encode(), b"T" * 16):
        assert secret not in first.value + first.key


def test_a_last_caller() -> None:
    record, journal, _ = recorder()
    record.called(LastCaller("t1", "b1", NUMBER, NOW, NOW + 600_000, "route/t1/20260101", b"box"))
    [item] = journal.written
    assert (item.kind, item.time_ms, item.key) == (CALLED, NOW, f"{NUMBER}/b1".encode())
    read = decode_caller(Record("callers", 0, 0, item.key, item.value, [], 0))
    caller = Copy("route/t1/20260101", b"box")
    assert read == LastCall(NUMBER, "b1", NOW, NOW + 600_000, caller)
    assert KINDS[CALLED] == events_pb2.LastCaller.DESCRIPTOR.full_name


def test_a_report_event() -> None:
    record, journal, _ = recorder()
    record.progressed(Progress("cmcc", "c1", 2, 4, 3, NOW, 16, 1), NOW + 5)
    [item] = journal.written
    event = events_pb2.CallProgressed.FromString(item.value)
    assert (item.kind, item.time_ms) == (PROGRESSED, NOW + 5)
    assert (event.leg, event.sequence, event.kind, event.q850_cause) == (2, 4, 3, 16)
    assert (event.fact.journal, event.fact.journal_sequence) == ("r1-0-a", 1)
    assert [KINDS[ROUTED], KINDS[REFUSED], KINDS[PROGRESSED]] == [
        m.DESCRIPTOR.full_name
        for m in (events_pb2.CallRouted, events_pb2.CallRefused, events_pb2.CallProgressed)
    ]
