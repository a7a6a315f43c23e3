"""Where to read on, and whether Kafka still has what a sink took its positions from.

A topic that was deleted and made again, restored from a backup or cut has other records at the same
offsets: reading on there would pass over records in silence. Refuses to decide what is then right;
that is the sink's. Invariant: a position is read on from only if the topic is the one it was taken
from, as far as the sink knows which, and it lies within what the partition has.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from confluent_kafka import TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from services.runtime.errors import FailedPrecondition

Position = tuple[str, int]

# No partition. What a sink stores as this one's offset is which topic of that name it has read: 52
# bits of the topic's id (KIP-516), as many as a double holds, since a Lua script compares it.
IDENTITY: Final = 2**31 - 1
_BITS: Final = 2**52 - 1

REPLACED: Final = "TOPIC_REPLACED"  # another topic of the same name
WENT_BACK: Final = "LOG_WENT_BACK"  # it ends before the position
CUT: Final = "LOG_CUT"  # it begins behind the position: what lay between was not read

_EARLIEST: Final = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
_LATEST: Final = OffsetSpec.latest()  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where each partition is to be read from; which topics they are; which positions are void,
    and why."""

    starts: Mapping[Position, int]
    identities: Mapping[str, int]
    void: Mapping[Position, str]


def place(
    admin: AdminClient,
    partitions: Collection[Position],
    stored: Mapping[Position, int],
    timeout: float = 5.0,
) -> Placement:
    """Compares what is stored with what Kafka has. A partition without a position begins where it
    begins. Raises KafkaException: a topic is missing, or no answer came."""
    found = identities(admin, {topic for topic, _ in partitions}, timeout)
    lows = _offsets(admin, partitions, _EARLIEST, timeout)
    highs = _offsets(admin, partitions, _LATEST, timeout)
    replaced = {t for t, its in found.items() if stored.get((t, IDENTITY), its) != its}
    void = {position: REPLACED for position in stored if position[0] in replaced}
    for position in partitions:
        at = stored.get(position)
        if at is not None and not lows[position] <= at <= highs[position]:
            void.setdefault(position, WENT_BACK if at > highs[position] else CUT)
    starts = {position: stored.get(position, lows[position]) for position in partitions}
    return Placement(starts, found, void)


def lost(void: Mapping[Position, str]) -> FailedPrecondition:
    """What ends a sink that must not go on by itself where records may be missing."""
    (topic, partition), why = min(void.items())
    return FailedPrecondition(why, topic=topic, partition=str(partition), positions=str(len(void)))


def identities(admin: AdminClient, topics: Collection[str], timeout: float = 5.0) -> dict[str, int]:
    """Which topic stands behind each name. Raises KafkaException."""
    asked = admin.describe_topics(TopicCollection(list(topics)), request_timeout=timeout)
    return {
        name: answer.result().topic_id.get_least_significant_bits() & _BITS
        for name, answer in asked.items()
    }


def end_offsets(
    admin: AdminClient, positions: Iterable[Position], timeout: float = 5.0
) -> dict[Position, int]:
    """Where each partition ends now. Raises KafkaException: one is missing, or no answer came."""
    return _offsets(admin, positions, _LATEST, timeout)


def _offsets(
    admin: AdminClient, positions: Iterable[Position], which: OffsetSpec, timeout: float
) -> dict[Position, int]:
    wanted = {TopicPartition(*position): which for position in positions}
    found = admin.list_offsets(wanted, request_timeout=timeout) if wanted else {}
    return {(p.topic, p.partition): each.result().offset for p, each in found.items()}
