"""Reading a topic to its end, on a real Kafka."""

from collections.abc import Callable, Sequence

import pytest
from confluent_kafka import KafkaException, Producer

from services.runtime.rebuild import read_to_end
from services.runtime.record import Record
from tests.factories import unique


async def test_a_topic_that_the_broker_does_not_show_is_not_taken_for_an_empty_one(
    kafka_bootstrap: str,
) -> None:
    async def take(_records: Sequence[Record]) -> None:
        raise AssertionError

    with pytest.raises(KafkaException, match="UNKNOWN_TOPIC_OR_PART"):
        await read_to_end(kafka_bootstrap, unique("missing"), take)


async def test_a_topic_is_read_from_a_moment_on(
    kafka_bootstrap: str, new_topic: Callable[..., str]
) -> None:
    topic, found = new_topic("since", partitions=3), list[bytes]()
    producer = Producer({"bootstrap.servers": kafka_bootstrap})
    for partition, moment in ((0, 1), (0, 2), (1, 3), (1, 1), (2, 1)):
        value = b"%d/%d" % (partition, moment)
        producer.produce(topic, value, b"k", partition, timestamp=1_790_000_000_000 + moment)
    producer.flush(10)

    async def take(records: Sequence[Record]) -> None:
        found.extend(record.value or b"" for record in records)

    ends = await read_to_end(kafka_bootstrap, topic, take, 1_790_000_000_002)
    assert sorted(found) == [b"0/2", b"1/1", b"1/3"]
    assert ends == {(topic, 0): 2, (topic, 1): 2, (topic, 2): 1}
