"""Topics that were made anew, cut, or went back, under a reader and between two of its runs."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from deploy.local.kafka import quiet_admin
from deploy.local.waiting import eventually
from services.runtime.consumer import Follower
from services.runtime.errors import FailedPrecondition
from services.runtime.parking import Parker
from services.runtime.placement import CUT, IDENTITY, REPLACED, WENT_BACK, identities, lost, place
from tests.contract.test_cell import latest, ready
from tests.contract.test_cell import running as owned
from tests.contract.test_consumer import MemorySink, decode, follower, produce, running
from tests.contract.toy import Toy
from tests.factories import unique


@pytest.fixture
def topic(new_topic: Callable[..., str]) -> str:
    return new_topic("placed", partitions=1)


def remake(bootstrap: str, topic: str) -> None:
    admin = quiet_admin(bootstrap)
    admin.delete_topics([topic])[topic].result(10)
    eventually(lambda: _made(admin, topic), 20)


def _made(admin: AdminClient, topic: str) -> bool:
    try:
        admin.create_topics([NewTopic(topic, num_partitions=1)])[topic].result(10)
    except KafkaException:
        return False
    return True


def read(
    bootstrap: str, topic: str, sink: MemorySink, values: Sequence[str], group: str | None = None
) -> None:
    with running(follower(bootstrap, topic, sink, group)):
        eventually(lambda: sink.values == list(values), 20)


@pytest.mark.parametrize("grouped", [False, True])
def test_a_topic_made_anew_between_two_runs_is_read_from_its_start(
    kafka_bootstrap: str, topic: str, grouped: bool
) -> None:
    """It has more records than were read, so only its id tells."""
    sink, group = MemorySink(), topic if grouped else None
    produce(kafka_bootstrap, topic, "a", "b")
    read(kafka_bootstrap, topic, sink, ["a", "b"], group)
    remake(kafka_bootstrap, topic)
    produce(kafka_bootstrap, topic, "c", "d", "e")
    read(kafka_bootstrap, topic, sink, ["a", "b", "c", "d", "e"], group)
    assert sink.voided == [{(topic, 0): REPLACED, (topic, IDENTITY): REPLACED}]


@pytest.mark.parametrize("grouped", [False, True])
def test_a_topic_made_anew_under_a_reader_is_read_from_its_start(
    kafka_bootstrap: str, topic: str, grouped: bool
) -> None:
    sink = MemorySink()
    produce(kafka_bootstrap, topic, "a", "b")
    follow = follower(kafka_bootstrap, topic, sink, topic if grouped else None)
    with running(follow) as raised:
        eventually(lambda: sink.values == ["a", "b"], 20)
        remake(kafka_bootstrap, topic)
        produce(kafka_bootstrap, topic, "c", "d", "e")
        # While the topic is gone the reader may be told so, which ends it: it is started again.
        eventually(lambda: raised or len(sink.values) == 5, 30)
    if raised:
        assert isinstance(raised[0], KafkaException)
        with running(follow):
            eventually(lambda: len(sink.values) == 5, 20)
    assert sink.values == ["a", "b", "c", "d", "e"]


def test_a_partition_that_ends_before_the_position_is_read_from_its_start(
    kafka_bootstrap: str, topic: str
) -> None:
    """As after a restore from a backup, by a sink that does not know topics' ids yet."""
    sink = MemorySink()
    sink.stored[topic, 0] = 7
    produce(kafka_bootstrap, topic, "a")
    read(kafka_bootstrap, topic, sink, ["a"])
    assert sink.voided == [{(topic, 0): WENT_BACK}]


@pytest.mark.parametrize("grouped", [False, True])
def test_records_deleted_before_they_were_read_are_told(
    kafka_bootstrap: str, topic: str, grouped: bool
) -> None:
    produce(kafka_bootstrap, topic, "a", "b", "c")
    admin, cut = quiet_admin(kafka_bootstrap), TopicPartition(topic, 0, 2)
    admin.delete_records([cut])[cut].result(10)
    sink = MemorySink()
    sink.stored[topic, 0] = 1
    parker, group = Parker(kafka_bootstrap), topic if grouped else None
    with running(Follower(kafka_bootstrap, [topic], decode, sink, parker, group=group)):
        eventually(lambda: sink.values == ["c"], 20)
    assert sink.voided == [{(topic, 0): CUT}]
    fresh = MemorySink()  # nothing was read: nothing is void
    read(kafka_bootstrap, topic, fresh, ["c"])
    assert fresh.voided == []


def test_a_sink_may_refuse_and_end_the_loop(kafka_bootstrap: str, topic: str) -> None:
    class Refusing(MemorySink):
        def void(self, positions: Any) -> None:
            raise lost(positions)

    sink = Refusing()
    sink.stored[topic, 0] = 7
    with running(follower(kafka_bootstrap, topic, sink)) as raised:
        eventually(lambda: raised, 20)
    assert isinstance(raised[0], FailedPrecondition)
    assert str(raised[0]) == f"{WENT_BACK} partition=0 positions=1 topic={topic}"


def test_what_is_as_it_was_is_read_on_from(kafka_bootstrap: str, topic: str) -> None:
    admin = quiet_admin(kafka_bootstrap)
    produce(kafka_bootstrap, topic, "a", "b")
    its = identities(admin, [topic])[topic]
    found = place(admin, [(topic, 0)], {(topic, 0): 2, (topic, IDENTITY): its})
    assert (dict(found.starts), dict(found.void)) == ({(topic, 0): 2}, {})


async def test_the_owner_of_a_cell_publishes_again_what_kafka_lost(
    kafka_bootstrap: str, valkey_url: str, new_topic: Callable[..., str]
) -> None:
    """Restored from a backup, or made anew: the store has what Kafka has not."""
    topic = new_topic("toy", config={"cleanup.policy": "compact"})
    toy = Toy(valkey_url, unique("cell"), topic)
    await toy.cell.open()
    async with owned(toy.owner(kafka_bootstrap)):
        await ready(toy)
        for number in range(5):
            await toy.cell.published(await toy.put(f"n{number}", "one", 1))
        async with asyncio.timeout(30):  # till it has verified what it wrote
            while not await toy.cell.redis.hexists(
                toy.cell.key("positions"), f"verified/{topic}/{IDENTITY}"
            ):
                await asyncio.sleep(0.05)
    await asyncio.to_thread(remake, kafka_bootstrap, topic)
    async with owned(toy.owner(kafka_bootstrap)):
        wanted = {f"n{number}": b"one" for number in range(5)}
        async with asyncio.timeout(30):
            while await asyncio.to_thread(latest, kafka_bootstrap, topic) != wanted:
                await asyncio.sleep(0.1)
    await toy.cell.close()
