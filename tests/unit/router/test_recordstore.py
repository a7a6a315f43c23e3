"""The records' store: one record per call through every crash window, and the reaper."""

from pathlib import Path

import pytest
from axbridge.router.v1 import events_pb2

from services.router.callevents import CallEvents
from services.router.callfold import Fact
from services.router.events import event_associated
from services.router.recordstore import RecordStore
from services.runtime.clock import SystemClock
from services.runtime.errors import FailedPrecondition, Retry
from services.runtime.keyring import MemoryKeyRing
from services.runtime.record import Record
from services.runtime.sealing import PurgeSealer, Sealed, associated, purge_key_id
from tests.parking import MemoryParking
from tests.unit.router.callrecords import (
    EVENTS,
    HOUR,
    NOW,
    RING,
    ended,
    record,
    refused,
    routed,
)
from tests.unit.router.journals import MemoryPublisher


class Feed:
    """Applies events at growing offsets, as the consumer loop does."""

    def __init__(self, store: RecordStore) -> None:
        self.store, self.offset = store, 0

    def __call__(self, *events: object) -> None:
        items: list[tuple[Record, Fact | None]] = []
        for event in events:
            found = record(self.offset, event)
            items.append((found, EVENTS.decode(found)))
            self.offset += 1
        self.store.apply(items, {("calls", 0): self.offset})


def store(folder: Path, kafka: MemoryPublisher) -> RecordStore:
    return RecordStore(folder, EVENTS, kafka, "records", abandon_ms=25 * HOUR)


def records(kafka: MemoryPublisher) -> list[events_pb2.CallRecorded]:
    return [events_pb2.CallRecorded.FromString(r.value or b"") for r in kafka.topic]


def test_one_record_per_call(tmp_path: Path) -> None:
    kafka = MemoryPublisher()
    feed = Feed(store(tmp_path, kafka))
    feed(routed("c1"), refused("c2"), ended("c1"), ended("c1", leg=2), ended("c1"))
    assert kafka.ids() == ["cdr-20270115-cmcc/c2-1", "cdr-20270115-cmcc/c1-1"]
    refusal, call = records(kafka)
    assert refusal.refusal_reason == 5
    assert (call.end_time.seconds, call.sequence) == (NOW // 1000 + 9, 1)
    assert kafka.topic[1].key == b"cmcc/c1"
    opened = PurgeSealer(RING).open(
        Sealed(call.secrets.key_id, call.secrets.box), associated("call-record", "cmcc", "c1", 1)
    )
    assert opened == b"secret"
    feed.store.close()


def test_a_repeat_of_the_input_is_ignored(tmp_path: Path) -> None:
    kafka = MemoryPublisher()
    first = Feed(store(tmp_path, kafka))
    first(routed("c1"), ended("c1"))
    first.store.close()
    again = Feed(store(tmp_path, kafka))
    assert again.store.positions() == {("calls", 0): 2}
    again(routed("c1"), ended("c1"))
    assert len(kafka.topic) == 1
    again.store.close()


@pytest.mark.parametrize("how", ["not applied", "applied"])
def test_dies_between_commit_and_acknowledgement(tmp_path: Path, how: str) -> None:
    """The outbox is published at the next start: octet for octet, under the same id."""
    kafka = MemoryPublisher()
    kafka.fail = [how]
    feed = Feed(store(tmp_path, kafka))
    with pytest.raises(Retry):
        feed(refused("c1"))
    feed.store.close()  # as a crash leaves it: the commit is there, the outbox full
    feed = Feed(store(tmp_path, kafka))
    feed.store.reap(0)
    assert set(kafka.ids()) == {"cdr-20270115-cmcc/c1-1"}
    assert len({r.value for r in kafka.topic}) == 1
    assert len(kafka.topic) == (2 if how == "applied" else 1)
    feed.store.reap(0)
    assert len(kafka.topic) == (2 if how == "applied" else 1)
    feed.store.close()


def test_takes_no_input_while_output_waits(tmp_path: Path) -> None:
    kafka = MemoryPublisher()
    kafka.away = True
    feed = Feed(store(tmp_path, kafka))
    for _ in range(3):
        with pytest.raises(Retry):
            feed.store.apply([(record(0, refused("c1")), EVENTS.decode(record(0, refused("c1"))))],
                             {("calls", 0): 1})  # fmt: skip
    kafka.away = False
    feed.store.reap(0)
    assert len(kafka.topic) == 1
    feed.store.close()


def test_the_reaper_closes_and_forgets(tmp_path: Path) -> None:
    kafka = MemoryPublisher()
    feed = Feed(store(tmp_path, kafka))
    feed(routed("c1"), ended("lonely"))
    assert feed.store.reap((NOW + 25 * HOUR - 1) / 1000) == 0
    assert feed.store.reap((NOW + 25 * HOUR + 1) / 1000) == 1
    assert [r.outcome for r in records(kafka)] == [events_pb2.CALL_OUTCOME_ABANDONED]
    feed(ended("c1"))  # late after all
    assert [r.sequence for r in records(kafka)] == [1, 2]
    assert records(kafka)[1].outcome == events_pb2.CALL_OUTCOME_UNANSWERED
    assert feed.store.reap((NOW + 99 * HOUR) / 1000) == 2
    assert feed.store.orphans == 1
    assert feed.store.reap((NOW + 999 * HOUR) / 1000) == 0
    feed.store.close()


def test_an_erased_bucket_leaves_a_record_without_secrets(tmp_path: Path) -> None:
    kafka, event = MemoryPublisher(), routed("c9")
    ring = MemoryKeyRing()
    events = CallEvents(PurgeSealer(ring))
    bound = event_associated("cmcc", "c9", "r1-0-a", 1)
    box = PurgeSealer(ring).seal("t1", SystemClock().now(), b"s", bound)
    event.secrets.key_id, event.secrets.box = box.key_id, box.box
    ring.destroy(purge_key_id("t1", SystemClock().now()))
    kept = RecordStore(tmp_path, events, kafka, "records")
    items = [(r, events.decode(r)) for r in (record(0, event), record(1, ended("c9")))]
    kept.apply(items, {("calls", 0): 2})
    assert not records(kafka)[0].HasField("secrets")
    kept.close()


def test_void_positions_end_it_unless_a_person_accepts_them(tmp_path: Path) -> None:
    kafka, void = MemoryPublisher(), {("calls", 0): "TOPIC_REPLACED"}
    first = store(tmp_path, kafka)
    Feed(first)(refused("c2"))
    with pytest.raises(FailedPrecondition, match="TOPIC_REPLACED"):
        first.void(void)
    assert first.positions() == {("calls", 0): 1}
    first.close()
    again = RecordStore(tmp_path, EVENTS, kafka, "records", accept_void=True)
    again.void(void)
    assert again.positions() == {}
    Feed(again)(refused("c2"))  # read again: no second record
    assert len(kafka.ids()) == 1
    again.close()


def test_an_event_that_says_something_else_of_a_known_place_is_parked(tmp_path: Path) -> None:
    kafka, parking = MemoryPublisher(), MemoryParking()
    made = RecordStore(tmp_path, EVENTS, kafka, "records", parking=parking)
    feed = Feed(made)
    feed(routed("c1"), ended("c1"))
    changed = ended("c1")
    changed.q850_cause += 1
    feed(ended("c1"), changed)
    assert [(each.offset, why) for each, why in parking.parked] == [(3, "VERSION_CONTRADICTED")]
    assert made.positions() == {("calls", 0): 4}
    assert len(kafka.ids()) == 1
    made.close()
