"""Makes Kafka compact a topic now instead of some day, for tests of what compaction keeps.

Kafka never compacts the segment it is writing to, and begins a new one only when a record
arrives. So the topic's settings are tightened for a moment and the last record of every partition
is appended again, unchanged: consumers must bear a repeated record anyway, and no record that a
consumer cannot read ever enters the topic. `min.compaction.lag.ms` is overridden as well.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import (
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
)
from confluent_kafka.admin._resource import ResourceType

from deploy.local.kafka import quiet_admin
from deploy.local.waiting import eventually

_TIMEOUT_SECONDS = 10.0
_TIGHT = {"segment.ms": "1", "min.compaction.lag.ms": "0", "min.cleanable.dirty.ratio": "0"}


@dataclass(frozen=True)
class Record:
    """One record as it lies in the topic; a value of None is a tombstone."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


def force_compaction(bootstrap: str, topic: str, deadline_seconds: float = 30.0) -> int:
    """Returns, with the number of records removed, once each key is left at most once.

    What counts is what the topic held when called; others may go on writing meanwhile.

    Raises:
        Late: a key still stood twice after the deadline.
        ValueError: the topic is not compacted.
    """
    before = contents(bootstrap, topic)
    last = {record.partition: record for record in before}
    left = before

    def compacted() -> bool:
        nonlocal left
        _append_again(bootstrap, topic, last.values())
        now = contents(bootstrap, topic)
        left = [r for r in now if r.partition in last and r.offset <= last[r.partition].offset]
        return max(Counter((r.partition, r.key) for r in left).values(), default=0) <= 1

    with _tightened(quiet_admin(bootstrap), topic):
        eventually(compacted, deadline_seconds, what=f"compaction of {topic}", every_seconds=0.2)
    return len(before) - len(left)


def contents(bootstrap: str, topic: str) -> list[Record]:
    """Every record the topic holds now, each partition in order; joins no group.

    Raises:
        KafkaException: the topic does not exist, or the broker is away.
    """
    settings: dict[str, str | int] = {
        "bootstrap.servers": bootstrap,
        "group.id": "unused",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "fetch.wait.max.ms": 10,  # the end is told by an empty fetch, which waits 500 ms by default
    }
    with closing(Consumer(settings)) as consumer:
        known = consumer.list_topics(topic, timeout=_TIMEOUT_SECONDS).topics[topic]
        if known.error is not None:
            raise KafkaException(known.error)
        unread = set(known.partitions)
        consumer.assign([TopicPartition(topic, each, OFFSET_BEGINNING) for each in unread])
        found = []
        while unread:
            message = consumer.poll(_TIMEOUT_SECONDS)
            error = KafkaError(KafkaError._TIMED_OUT) if message is None else message.error()
            if error is not None and error.code() != KafkaError._PARTITION_EOF:
                raise KafkaException(error)
            assert message is not None
            if error is None:
                found.append(_record(message))
            else:
                unread.discard(message.partition())
        return found


def _record(message: Message) -> Record:
    partition, offset = message.partition(), message.offset()
    assert partition is not None
    assert offset is not None  # both are set on every record that has no error
    headers = message.headers() or []
    pairs = headers.items() if isinstance(headers, dict) else headers
    raw = tuple((name, v.encode() if isinstance(v, str) else v) for name, v in pairs)
    return Record(partition, offset, message.key(), message.value(), raw)


def _append_again(bootstrap: str, topic: str, records: Collection[Record]) -> None:
    with closing(Producer({"bootstrap.servers": bootstrap})) as producer:
        for record in records:
            producer.produce(
                topic,
                record.value,
                record.key,
                partition=record.partition,
                headers=list(record.headers),
            )
        if producer.flush(_TIMEOUT_SECONDS):
            raise KafkaException(KafkaError(KafkaError._MSG_TIMED_OUT))


@contextmanager
def _tightened(admin: AdminClient, topic: str) -> Iterator[None]:
    """The topic's settings made tight for the time of the context, then as they were."""
    settings = _describe(admin, topic)
    if "compact" not in str(settings["cleanup.policy"].value):
        raise ValueError(f"{topic} is not compacted")
    own: dict[str, str | None] = {
        name: settings[name].value
        for name in _TIGHT
        if ConfigSource(settings[name].source) is ConfigSource.DYNAMIC_TOPIC_CONFIG
    }
    _alter(admin, topic, _TIGHT)
    try:
        yield
    finally:
        _alter(admin, topic, {name: own.get(name) for name in _TIGHT})


def _describe(admin: AdminClient, topic: str) -> dict[str, ConfigEntry]:
    (answer,) = admin.describe_configs([ConfigResource(ResourceType.TOPIC, topic)]).values()
    found: dict[str, ConfigEntry] = answer.result(_TIMEOUT_SECONDS)
    return found


def _alter(admin: AdminClient, topic: str, values: Mapping[str, str | None]) -> None:
    """Sets each value; None takes the topic's own value away."""
    entries = [
        ConfigEntry(
            name,
            value,
            incremental_operation=(
                AlterConfigOpType.DELETE if value is None else AlterConfigOpType.SET
            ),
        )
        for name, value in values.items()
    ]
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
    (answer,) = admin.incremental_alter_configs([resource]).values()
    answer.result(_TIMEOUT_SECONDS)
