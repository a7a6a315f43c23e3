"""What is published and stored about a binding: outbox entries with topic, partition, key, id.

Pure: knows the topics, never a key ring. Refuses to choose what happens to a binding.
Invariant: what is published about one version always has the same event id, key and partition, so
publishing it again is harmless.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from axbridge.binding.v1 import events_pb2
from axbridge.runtime.v1 import outbox_pb2

from services.binding.domain import Binding
from services.binding.messages import (
    REASONS,
    Copies,
    fact_of,
    record_of,
    route_of,
    sealed,
    state_and_record,
    timestamp,
)
from services.runtime import topics

_EVENTS: Final = "axbridge.binding.v1."
_STATE: Final = topics.BINDING_STATE.messages[0]
_ROUTE: Final = topics.BINDING_ROUTES.messages[0]


class Records:
    """Makes records; `partitions` holds the number of each topic's."""

    def __init__(self, partitions: Mapping[str, int]) -> None:
        self._partitions = partitions

    def entry(self, binding: Binding, copies: Copies, order_tag: str = "") -> tuple[bytes, bytes]:
        """The binding's record for the store, and the outbox entry that announces this version."""
        route = route_of(binding, copies)
        state, record = state_and_record(record_of(binding, route, copies, order_tag))
        name, event = _event(binding, copies)
        made = outbox_pb2.OutboxEntry()
        # State first: what a crash leaves of an entry is most likely known to the state topic, from
        # which a heal makes the rest again.
        x, version = binding.number, f"{binding.id}-{binding.version}"
        values = [
            (topics.BINDING_STATE, x, state, "", _STATE),
            (topics.BINDING_ROUTES, x, route.SerializeToString(), "", _ROUTE),
            (topics.BINDING_BINDINGS, x, event, version, name),
        ]
        if y := binding.second:
            second = route_of(binding, copies, y).SerializeToString()
            values.insert(2, (topics.BINDING_ROUTES, y, second, "", _ROUTE))
        for topic, number, value, event_id, kind in values:
            made.records.add(
                topic=topic.name,
                partition=topics.partition_of(number, self._partitions[topic.name]),
                key=f"{number}/{binding.id}".encode(),
                value=value,
                event_id=event_id,
                type=kind,
                time_ms=binding.update_ms,
                version=binding.version,
            )
        return record, made.SerializeToString()

    def tombstones(self, numbers: Sequence[str], binding: str, version: int, now: int) -> bytes:
        """The outbox entry that deletes a binding's compacted records; X is the first number."""
        places = [(topics.BINDING_ROUTES, number) for number in numbers]
        places.append((topics.BINDING_STATE, numbers[0]))
        return outbox_pb2.OutboxEntry(
            records=[
                outbox_pb2.OutboxRecord(
                    topic=topic.name,
                    partition=topics.partition_of(number, self._partitions[topic.name]),
                    key=f"{number}/{binding}".encode(),
                    tombstone=True,
                    type=topic.messages[0],
                    time_ms=now,
                    version=version,
                )
                for topic, number in places
            ]
        ).SerializeToString()

    def cell(self, cell: str, epoch: int, now: int) -> outbox_pb2.OutboxRecord:
        """The record of a cell's newest owner."""
        value = events_pb2.StateRecord(cell=events_pb2.CellRecord(epoch=epoch)).SerializeToString()
        return self.made(topics.BINDING_STATE, f"cell/{cell}", value, now, epoch)

    def route_key(self, key_id: str, value: bytes, now: int, version: int = 1) -> bytes:
        """The outbox entry that announces a route key's record, or its end: an empty one."""
        record = self.made(topics.BINDING_KEYS, key_id, value, now, version)
        return outbox_pb2.OutboxEntry(records=[record]).SerializeToString()

    def made(
        self, topic: topics.Topic, key: str, value: bytes, time_ms: int, version: int
    ) -> outbox_pb2.OutboxRecord:
        """A record that its key alone places; an empty value ends it."""
        return outbox_pb2.OutboxRecord(
            topic=topic.name,
            partition=topics.partition_of(key, self._partitions[topic.name]),
            key=key.encode(),
            value=value,
            tombstone=not value,
            type=topic.messages[0],
            time_ms=time_ms,
            version=version,
        )


def _event(binding: Binding, copies: Copies) -> tuple[str, bytes]:
    """The type and the value of the event that this version is."""
    fact, secrets = fact_of(binding), sealed(copies.secrets)
    event: events_pb2.BindingCreated | events_pb2.BindingUpdated | events_pb2.BindingReleased
    if not binding.live:
        name = "BindingReleased"
        event = events_pb2.BindingReleased(
            fact=fact,
            secrets=secrets,
            reason=REASONS[binding.reason],
            release_time=timestamp(binding.release_ms),
            cool_until=timestamp(binding.cool_until_ms),
        )
    elif binding.version == 1:
        name = "BindingCreated"
        event = events_pb2.BindingCreated(fact=fact, secrets=secrets)
    else:
        name = "BindingUpdated"
        event = events_pb2.BindingUpdated(fact=fact, secrets=secrets)
    return _EVENTS + name, event.SerializeToString()
