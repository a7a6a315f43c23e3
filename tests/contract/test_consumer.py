"""The read loop on a real broker: apply, park, retry or crash; in groups and broadcast."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import pytest
from confluent_kafka import KafkaException, Producer

from deploy.local.compaction import contents
from deploy.local.kafka import quiet_admin
from deploy.local.waiting import eventually
from services.runtime.consumer import Follower, Position
from services.runtime.errors import Malformed, Retry
from services.runtime.metrics import Metrics
from services.runtime.parking import ParkedTooMany, Parker
from services.runtime.record import Record
from services.runtime.topics import Topic, ensure
from tests.factories import unique


class MemorySink:
    """Keeps values and positions as one; can be told to fail, before or after it applied."""

    def __init__(self) -> None:
        self.values: list[str] = []
        self.stored: dict[Position, int] = {}
        self.failures: list[Exception] = []
        self.calls = 0
        self.voided: list[dict[Position, str]] = []

    def positions(self) -> Mapping[Position, int]:
        return self.stored

    def void(self, positions: Mapping[Position, str]) -> None:
        self.voided.append(dict(positions))
        for position in positions:
            self.stored.pop(position, None)

    def apply(self, items: Sequence[tuple[Record, str]], positions: Mapping[Position, int]) -> None:
        self.calls += 1
        if self.failures:
            raise self.failures.pop(0)
        for record, value in items:
            if record.offset >= self.stored.get((record.topic, record.partition), 0):
                self.values.append(value)
        self.stored.update(positions)


def decode(record: Record) -> str:
    text = (record.value or b"").decode()
    if text.startswith("bad"):
        raise Malformed("VALUE_MALFORMED")
    return text


@pytest.fixture
def topic(kafka_bootstrap: str, new_topic: Callable[..., str]) -> str:
    name = new_topic("follow", partitions=2)
    ensure(quiet_admin(kafka_bootstrap), 2, topics=[Topic(name, "audit", "events", (), "")])
    return name


def produce(bootstrap: str, topic: str, *values: str, partition: int = 0) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
    for value in values:
        producer.produce(topic, key=b"k", value=value.encode(), partition=partition)
    assert producer.flush(10) == 0


def follower(
    bootstrap: str, topic: str, sink: MemorySink, group: str | None = None, limit: int = 100
) -> Follower[str]:
    parker = Parker(bootstrap, limit=limit)
    return Follower(bootstrap, [topic], decode, sink, parker, group=group)


@contextmanager
def running(follow: Follower[str]) -> Iterator[list[BaseException]]:
    stop = threading.Event()
    raised: list[BaseException] = []

    def run() -> None:
        try:
            follow.run(stop)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield raised
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("grouped", [False, True])
def test_records_are_applied_in_order_and_read_on_from_the_stored_position(
    kafka_bootstrap: str, topic: str, grouped: bool
) -> None:
    sink, group = MemorySink(), unique("group") if grouped else None
    produce(kafka_bootstrap, topic, "a", "b")
    with running(follower(kafka_bootstrap, topic, sink, group)):
        eventually(lambda: sink.values == ["a", "b"], 20)
    produce(kafka_bootstrap, topic, "c")
    with running(follower(kafka_bootstrap, topic, sink, group)):
        eventually(lambda: sink.values == ["a", "b", "c"], 20)
    assert sink.stored[topic, 0] == 3


def test_the_stored_position_stands_above_kafkas_commit(kafka_bootstrap: str, topic: str) -> None:
    """A sink that lost its state is given everything again, whatever the group committed."""
    sink, group = MemorySink(), unique("group")
    produce(kafka_bootstrap, topic, "a")
    with running(follower(kafka_bootstrap, topic, sink, group)):
        eventually(lambda: sink.values == ["a"], 20)
    empty = MemorySink()
    with running(follower(kafka_bootstrap, topic, empty, group)):
        eventually(lambda: empty.values == ["a"], 20)


def test_what_cannot_be_decoded_is_parked_with_its_reason(kafka_bootstrap: str, topic: str) -> None:
    sink = MemorySink()
    produce(kafka_bootstrap, topic, "a", "bad", "b")
    with running(follower(kafka_bootstrap, topic, sink)):
        eventually(lambda: sink.values == ["a", "b"], 20)
    [record] = contents(kafka_bootstrap, f"{topic}.parked")
    headers = dict(record.headers)
    assert record.value == b"bad"
    assert headers["ax_parked_reason"] == b"VALUE_MALFORMED"
    assert headers["ax_parked_offset"] == b"1"


def test_too_many_parked_records_end_the_loop(kafka_bootstrap: str, topic: str) -> None:
    sink = MemorySink()
    produce(kafka_bootstrap, topic, "bad 1", "bad 2", "bad 3")
    with running(follower(kafka_bootstrap, topic, sink, limit=2)) as raised:
        eventually(lambda: raised, 20)
    assert isinstance(raised[0], ParkedTooMany)
    assert sink.stored.get((topic, 0), 0) <= 2


def test_a_crash_loop_parks_no_record_twice_and_is_bounded_by_what_is_parked(
    kafka_bootstrap: str, topic: str
) -> None:
    produce(kafka_bootstrap, topic, "bad 1", "bad 2", "bad 3")
    for _ in range(3):  # a sink that keeps nothing: each run reads from the start
        with running(follower(kafka_bootstrap, topic, MemorySink(), limit=2)) as raised:
            eventually(lambda: raised, 20)
        assert isinstance(raised[0], ParkedTooMany)
    assert [each.value for each in contents(kafka_bootstrap, f"{topic}.parked")] == [
        b"bad 1", b"bad 2",
    ]  # fmt: skip


def test_what_was_parked_before_the_window_does_not_count(kafka_bootstrap: str, topic: str) -> None:
    """But it is known: a record parked once is not parked again later."""

    def park(ahead: float, *values: str) -> None:
        metrics = Metrics("toy")
        parker = Parker(kafka_bootstrap, metrics, limit=1, wall=lambda: time.time() + ahead)
        for offset, value in enumerate(values):
            parker.park(Record(topic, 0, offset, b"", value.encode(), [], 0), Malformed("BAD"))
        labels = {"topic": topic, "reason": "BAD"}
        counted.append(metrics.registry.get_sample_value("toy_parked_total", labels))

    counted: list[float | None] = []
    park(0, "one")
    park(4000, "one", "two")
    with pytest.raises(ParkedTooMany):
        park(0, "one", "two", "three")
    assert counted == [1, 1]


def test_a_retry_is_tried_again_and_another_error_ends_the_loop(
    kafka_bootstrap: str, topic: str
) -> None:
    sink = MemorySink()
    sink.failures = [Retry("LATER"), Retry("LATER")]
    produce(kafka_bootstrap, topic, "a")
    with running(follower(kafka_bootstrap, topic, sink)) as raised:
        eventually(lambda: sink.values == ["a"], 20)
        assert sink.calls == 3
        sink.failures = [ValueError("a defect")]
        produce(kafka_bootstrap, topic, "b")
        eventually(lambda: raised, 20)
    assert isinstance(raised[0], ValueError)
    assert sink.stored[topic, 0] == 1


def test_freshness_is_the_time_at_which_everything_was_known(
    kafka_bootstrap: str, topic: str
) -> None:
    sink = MemorySink()
    follow = follower(kafka_bootstrap, topic, sink)
    assert follow.fresh_at == 0
    produce(kafka_bootstrap, topic, "a")
    produce(kafka_bootstrap, topic, "b", partition=1)
    with running(follow):
        eventually(lambda: follow.fresh_at > 0, 20)
        assert sorted(sink.values) == ["a", "b"]
        before = follow.fresh_at
        eventually(lambda: follow.fresh_at > before, 20)


def test_a_topic_that_is_missing_is_an_error(kafka_bootstrap: str) -> None:
    with running(follower(kafka_bootstrap, unique("missing"), MemorySink())) as raised:
        eventually(lambda: raised, 20)
    assert isinstance(raised[0], KafkaException)


def test_members_of_a_group_share_the_partitions_and_take_over(
    kafka_bootstrap: str, topic: str
) -> None:
    """Two members on one store: each record is applied once, also after one has left."""
    sink, group = MemorySink(), unique("group")
    with running(follower(kafka_bootstrap, topic, sink, group)):
        with running(follower(kafka_bootstrap, topic, sink, group)):
            for number in range(20):
                produce(kafka_bootstrap, topic, str(number), partition=number % 2)
            eventually(lambda: len(sink.values) == 20, 30)
        produce(kafka_bootstrap, topic, "even", partition=0)
        produce(kafka_bootstrap, topic, "odd", partition=1)
        eventually(lambda: {"even", "odd"} <= set(sink.values), 30)
    assert sorted(sink.values) == sorted([*(str(n) for n in range(20)), "even", "odd"])
