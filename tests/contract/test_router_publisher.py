"""The router's publisher on the fake and on a real Kafka."""

from collections.abc import Iterator

import pytest

from deploy.local.waiting import eventually
from services.router.publisher import KafkaPublisher, Publishing
from services.runtime.publisher import Outgoing
from tests.conftest import NewTopicName
from tests.router_world import read_topic
from tests.unit.router.journals import MemoryPublisher


@pytest.fixture(params=["memory", "kafka"])
def publisher(request: pytest.FixtureRequest) -> Iterator[Publishing]:
    if request.param == "memory":
        yield MemoryPublisher()
    else:
        yield KafkaPublisher(request.getfixturevalue("kafka_bootstrap"))


def test_publishes_in_order_to_the_partition_given(
    publisher: Publishing, new_topic: NewTopicName, kafka_bootstrap: str
) -> None:
    topic = new_topic("calls", partitions=4)
    eventually(lambda: publisher.partitions(topic) == 4, what="the new topic")
    batch = [Outgoing(topic, 3, b"k%d" % i, b"v", [("ce_id", b"e")]) for i in range(50)]
    assert publisher.publish(batch)
    assert publisher.publish([])
    if isinstance(publisher, KafkaPublisher):
        found = read_topic(kafka_bootstrap, topic)
        assert [m.key() for m in found] == [record.key for record in batch]
        assert {m.partition() for m in found} == {3}


def test_without_a_broker_there_are_no_partitions() -> None:
    assert KafkaPublisher("127.0.0.1:1").partitions("calls") == 0
