"""Notices that Kafka went back: partitions that end before what the log already has of them.

That happens when topics are deleted and made again, or when brokers lose records that they had
acknowledged. Reading on from the old offset would pass over new records in silence; so such a
partition is read from its start, and the log drops what it has by event id. Invariant: a partition
that has all that the log has of it is never read again.
"""

import threading
from collections.abc import Iterable, Mapping
from typing import Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from services.runtime.consumer import Position, end_offsets
from services.runtime.telemetry import logger

_RETRY_SECONDS: Final = 0.5
_LOG: Final = logger(__name__)


def gone_back(
    bootstrap: str, topics: Iterable[str], stored: Mapping[Position, int], stop: threading.Event
) -> set[Position]:
    """The partitions of `topics` that end before their stored position. Waits for Kafka to answer;
    none if `stop` comes first. A topic that is gone is left to the consumer loop to refuse."""
    followed = set(topics)
    wanted = {position: offset for position, offset in stored.items() if position[0] in followed}
    if not wanted:
        return set()
    admin = AdminClient({"bootstrap.servers": bootstrap})
    while not stop.is_set():
        try:
            ends = _ends(admin, wanted)
        except KafkaException:
            stop.wait(_RETRY_SECONDS)
            continue
        back = {position for position, end in ends.items() if end < wanted[position]}
        for topic, partition in sorted(back):
            _LOG.error(
                "kafka went back behind the log; reading the partition from its start",
                topic=topic,
                partition=partition,
                end=ends[topic, partition],
                sequenced=wanted[topic, partition],
            )
        return back
    return set()


def _ends(admin: AdminClient, positions: Iterable[Position]) -> dict[Position, int]:
    """The end of each partition that exists; raises KafkaException if Kafka does not answer."""
    known = admin.list_topics(timeout=5).topics
    return end_offsets(
        admin,
        (
            (topic, partition)
            for topic, partition in positions
            if topic in known and partition in known[topic].partitions
        ),
    )
