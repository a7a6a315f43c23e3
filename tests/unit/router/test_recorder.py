"""Decisions as events: complete, and without a word about who called in the clear part."""

from pathlib import Path

from axbridge.router.v1 import events_pb2

from services.router.domain import Progress, Refusal
from services.router.opener import CallerSealer
from services.router.recorder import JournalRecorder, caller_associated, event_associated
from services.router.segments import KINDS, PROGRESSED, REFUSED, ROUTED
from services.runtime.keyring import EvidenceKeys, MemoryKeyRing
from services.runtime.sealing import PurgeSealer, Sealed, open_evidence
from tests.unit.router.decisions import NOW, NUMBER, A, B, decision


class MemoryJournal:
    def __init__(self) -> None:
        self.written: list[tuple[int, int, bytes, bytes]] = []

    def append(self, kind: int, time_ms: int, key: bytes, value_of: object) -> int:
        sequence = len(self.written) + 1
        self.written.append((kind, time_ms, key, value_of("r1-0-a", sequence)))  # type: ignore[operator]
        return sequence


def recorder(tmp_path: Path) -> tuple[JournalRecorder, MemoryJournal, MemoryKeyRing]:
    journal, ring = MemoryJournal(), MemoryKeyRing()
    public = EvidenceKeys.generate(tmp_path)
    made = JournalRecorder(journal, CallerSealer(ring, public))  # type: ignore[arg-type]
    return made, journal, ring


def test_a_routed_event_says_everything_but_who_called(tmp_path: Path) -> None:
    record, journal, ring = recorder(tmp_path)
    record.decided(decision())
    [(kind, time_ms, key, value)] = journal.written
    assert (kind, time_ms, key) == (ROUTED, NOW, b"cmcc/c1")
    event = events_pb2.CallRouted.FromString(value)
    assert (event.fact.journal, event.fact.journal_sequence) == ("r1-0-a", 1)
    assert (event.fact.time.seconds, event.fact.time.nanos) == (NOW // 1000, 123_000_000)
    assert (event.number, event.trunk, int(event.calling_side)) == (NUMBER, "trunk-1", 1)
    assert (event.binding.tenant, event.binding.binding, event.binding.version) == ("t1", "b1", 3)
    assert event.max_duration.seconds == 1800
    assert event.view_age.nanos == 250_000_000
    for digits in (A[3:], B[3:]):
        assert digits.encode() not in value
    assert b"T" * 16 not in value
    bound = event_associated("cmcc", "c1", "r1-0-a", 1)
    opened = PurgeSealer(ring).open(Sealed(event.secrets.key_id, event.secrets.box), bound)
    secrets = events_pb2.CallSecrets.FromString(opened)
    assert secrets.caller_tag == b"T" * 16
    copy = Sealed(secrets.caller_evidence.key_id, secrets.caller_evidence.box)
    private = EvidenceKeys.load_private(tmp_path)
    assert open_evidence(private, ring, copy, caller_associated("cmcc", "c1")) == A.encode()


def test_a_refused_event(tmp_path: Path) -> None:
    record, journal, _ = recorder(tmp_path)
    record.decided(decision(Refusal.EXPIRED))
    record.decided(decision(Refusal.NOT_BOUND, entry=None))
    record.decided(decision(Refusal.BLOCK_FOREIGN, entry=None, tenant="", tag=b""))
    record.decided(decision(Refusal.CALLER_WITHHELD, entry=None, caller="", tag=b""))
    events = [events_pb2.CallRefused.FromString(value) for _, _, _, value in journal.written]
    assert {kind for kind, _, _, _ in journal.written} == {REFUSED}
    assert [e.reason for e in events] == [6, 5, 2, 3]
    assert [e.q850_cause for e in events] == [21, 21, 1, 21]
    assert [e.binding.binding for e in events] == ["b1", "", "", ""]
    assert [e.HasField("secrets") for e in events] == [True, True, False, False]
    assert not events[2].HasField("binding")  # no tenant: the caller is not recorded


def test_a_report_event(tmp_path: Path) -> None:
    record, journal, _ = recorder(tmp_path)
    record.progressed(Progress("cmcc", "c1", 2, 4, 3, NOW, 16, 1), NOW + 5)
    [(kind, time_ms, _, value)] = journal.written
    event = events_pb2.CallProgressed.FromString(value)
    assert (kind, time_ms) == (PROGRESSED, NOW + 5)
    assert (event.leg, event.sequence, event.kind, event.q850_cause) == (2, 4, 3, 16)
    assert [KINDS[ROUTED], KINDS[REFUSED], KINDS[PROGRESSED]] == [
        m.DESCRIPTOR.full_name
        for m in (events_pb2.CallRouted, events_pb2.CallRefused, events_pb2.CallProgressed)
    ]
