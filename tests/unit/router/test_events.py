"""Decisions as events: complete, the same each time, and who called in the sealed part only."""

from pathlib import Path

import pytest
from axbridge.router.v1 import events_pb2

from services.router.domain import Progress, Refusal, Verdict
from services.router.events import JournalEvents, caller_associated, event_associated
from services.router.opener import CallerSealer
from services.router.packed import JournalCipher, Unreadable
from services.router.recorder import JournalRecorder
from services.router.segments import MESSAGE_REFUSED, REFUSED
from services.router.texts import text_of
from services.runtime.keyring import EvidenceKeys, MemoryKeyRing
from services.runtime.sealing import PurgeSealer, Sealed, open_evidence
from tests.unit.router.decisions import NOW, NUMBER, A, B, decision
from tests.unit.router.journals import MemoryJournal


class Way:
    """From decisions to events."""

    def __init__(self, folder: Path) -> None:
        self.ring, self.journal = MemoryKeyRing(), MemoryJournal()
        cipher = JournalCipher(self.ring, self.journal.name)
        self.record = JournalRecorder(self.journal, cipher)  # type: ignore[arg-type]
        self._public = EvidenceKeys.generate(folder)
        self.events = self.new()

    def new(self) -> JournalEvents:
        """As a process that starts."""
        return JournalEvents(self.ring, CallerSealer(self.ring, self._public))

    def values(self) -> list[bytes]:
        return [self.events.value(self.journal.name, item) for item in self.journal.written]


def test_a_message_says_its_encoding_and_parts(tmp_path: Path) -> None:
    way = Way(tmp_path)
    way.record.messaged(decision(), text_of("a" * 200))
    way.record.messaged(decision(Refusal.TEXT_HAS_NUMBER), text_of("楼下"))
    routed, refused = way.values()
    sent = events_pb2.CallRouted.FromString(routed).message
    kept = events_pb2.CallRefused.FromString(refused).message
    assert [(int(m.encoding), m.parts) for m in (sent, kept)] == [(1, 2), (2, 1)]
    assert "楼下".encode() not in refused
    moved = way.journal.written[0]._replace(kind=MESSAGE_REFUSED)
    with pytest.raises(Unreadable):
        way.events.value(way.journal.name, moved)


def test_a_verdict_is_in_the_event(tmp_path: Path) -> None:
    way = Way(tmp_path)
    way.record.decided(decision(verdict=Verdict.GENUINE_CACHED))
    way.record.decided(decision(Refusal.NOT_GENUINE, verdict=Verdict.NOT_GENUINE))
    routed, refused = way.values()
    assert int(events_pb2.CallRouted.FromString(routed).verdict) == Verdict.GENUINE_CACHED
    assert int(events_pb2.CallRefused.FromString(refused).verdict) == Verdict.NOT_GENUINE


def test_a_routed_event_says_everything_but_who_called(tmp_path: Path) -> None:
    way = Way(tmp_path)
    way.record.decided(decision())
    [value] = way.values()
    event = events_pb2.CallRouted.FromString(value)
    assert (event.fact.carrier, event.fact.call_id) == ("cmcc", "c1")
    assert (event.fact.journal, event.fact.journal_sequence) == ("r1-0-a", 1)
    assert (event.fact.time.seconds, event.fact.time.nanos) == (NOW // 1000, 123_000_000)
    assert (event.number, event.trunk, int(event.calling_side)) == (NUMBER, "trunk-1", 1)
    assert (event.binding.tenant, event.binding.binding, event.binding.version) == ("t1", "b1", 3)
    assert event.binding.industry_id == "taxi"
    assert event.max_duration.seconds == 1800
    assert event.view_age.nanos == 250_000_000
    for digits in (A[3:], B[3:]):
        assert digits.encode() not in value
    assert b"T" * 16 not in value
    bound = event_associated("cmcc", "c1", "r1-0-a", 1)
    opened = PurgeSealer(way.ring).open(Sealed(event.secrets.key_id, event.secrets.box), bound)
    secrets = events_pb2.CallSecrets.FromString(opened)
    assert secrets.caller_tag == b"T" * 16
    copy = Sealed(secrets.caller_evidence.key_id, secrets.caller_evidence.box)
    private = EvidenceKeys.load_private(tmp_path)
    assert open_evidence(private, way.ring, copy, caller_associated("cmcc", "c1")) == A.encode()


def test_a_refused_event(tmp_path: Path) -> None:
    way = Way(tmp_path)
    way.record.decided(decision(Refusal.EXPIRED))
    way.record.decided(decision(Refusal.NOT_BOUND, entry=None))
    way.record.decided(decision(Refusal.BLOCK_FOREIGN, entry=None, tenant="", tag=b""))
    way.record.decided(decision(Refusal.CALLER_WITHHELD, entry=None, caller="", tag=b""))
    events = [events_pb2.CallRefused.FromString(value) for value in way.values()]
    assert {item.kind for item in way.journal.written} == {REFUSED}
    assert [e.reason for e in events] == [6, 5, 2, 3]
    assert [e.q850_cause for e in events] == [21, 21, 1, 21]
    assert [e.binding.binding for e in events] == ["b1", "", "", ""]
    assert [e.HasField("secrets") for e in events] == [True, True, False, False]
    assert not events[2].HasField("binding")  # no tenant: the caller is not recorded


def test_the_same_event_again_is_the_same_octets(tmp_path: Path) -> None:
    way = Way(tmp_path)
    way.record.decided(decision())
    way.record.decided(decision())
    way.record.progressed(Progress("cmcc", "c1", 2, 4, 3, NOW, 16, 1), NOW + 5)
    first = way.values()
    assert way.values() == first
    assert first[2] == way.journal.written[2].value
    way.events = way.new()  # another process has another writer key
    again = way.values()
    assert again[0] != first[0]
    assert again[2] == first[2]
    both = [events_pb2.CallRouted.FromString(value) for value in (*first[:2], *again[:2])]
    assert len({event.secrets.box[1:13] for event in both}) == 4  # no nonce for two plaintexts
    for event in both:
        event.ClearField("secrets")
    assert both[:2] == both[2:]


def test_an_erased_bucket_leaves_the_rest_of_the_event(tmp_path: Path) -> None:
    way = Way(tmp_path)
    way.record.decided(decision())
    [value] = way.values()
    way.ring.destroy(events_pb2.CallRouted.FromString(value).secrets.key_id)
    way.events = way.new()
    [value] = way.values()
    event = events_pb2.CallRouted.FromString(value)
    assert not event.HasField("secrets")
    assert event.number == NUMBER


def test_an_item_that_was_moved_or_altered_makes_no_event(tmp_path: Path) -> None:
    way = Way(tmp_path)
    way.record.decided(decision())
    [item] = way.journal.written
    for journal, other in (
        ("r1-0-b", item),
        ("r1-0-a", item._replace(sequence=2)),
        ("r1-0-a", item._replace(key=b"cmcc/c2")),
        ("r1-0-a", item._replace(kind=REFUSED)),
        ("r1-0-a", item._replace(time_ms=NOW + 1)),
    ):
        with pytest.raises(Unreadable):
            way.events.value(journal, other)
