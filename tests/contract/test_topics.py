"""The topic catalogue on a real broker: what it creates, and what it refuses."""

from collections.abc import Callable

import pytest

from deploy.local.kafka import quiet_admin
from services.runtime import topics
from services.runtime.errors import FailedPrecondition
from services.runtime.topics import Topic, partition_of
from tests.factories import unique


def compacted() -> Topic:
    config = {"cleanup.policy": "compact"}
    return Topic(unique("compacted"), "binding", "compacted", (), "key", config)


def test_missing_topics_are_created_with_their_parked_twins(kafka_bootstrap: str) -> None:
    admin = quiet_admin(kafka_bootstrap)
    topic = compacted()
    topics.ensure(admin, partitions=3, topics=[topic])
    topics.ensure(admin, partitions=3, topics=[topic])  # again: nothing to do, nothing wrong
    assert topics.partition_counts(admin, [topic]) == {topic.name: 3}
    assert len(admin.list_topics(timeout=10).topics[topic.parked].partitions) == 1


def test_a_topic_with_another_clean_up_policy_is_refused(
    kafka_bootstrap: str, new_topic: Callable[..., str]
) -> None:
    name = new_topic("deleted")
    wrong = Topic(name, "binding", "compacted", (), "key", {"cleanup.policy": "compact"})
    with pytest.raises(FailedPrecondition, match="TOPIC_DIFFERS"):
        topics.ensure(quiet_admin(kafka_bootstrap), topics=[wrong])


def test_a_missing_topic_is_named(kafka_bootstrap: str) -> None:
    with pytest.raises(FailedPrecondition, match="TOPIC_MISSING"):
        topics.partition_counts(quiet_admin(kafka_bootstrap), [compacted()])


def test_the_partition_of_a_number_is_stable() -> None:
    assert partition_of("700123456780001", 64) == partition_of("700123456780001", 64) < 64
    spread = {partition_of(f"70012345678{serial:04d}", 8) for serial in range(200)}
    assert spread == set(range(8))
