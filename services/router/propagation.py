"""How far changes have come: what a router tells of its view every second, and who applied what.

Reads Kafka only when it is asked, and keeps nothing. Refuses to take silence for success: a router
that has not told that it applied a change has not. Invariant: an apply time is one at which every
look-up saw the change, or a newer one of the same binding.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Any, Final, NamedTuple, Protocol

from axbridge.router.v1 import events_pb2, view_service_pb2, view_service_pb2_grpc
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from google.protobuf.message import DecodeError

from services.router.publisher import Publishing
from services.router.translate import (
    invalid_field,
    milliseconds,
    time_ms_from,
    timestamp,
    write_timestamp,
)
from services.runtime.clock import Clock
from services.runtime.envelope import Envelope
from services.runtime.errors import Malformed, NotFound, Unavailable
from services.runtime.ids import IdSource
from services.runtime.message import to_record
from services.runtime.phone import is_middle_number
from services.runtime.placement import IDENTITY
from services.runtime.publisher import Outgoing
from services.runtime.record import Record
from services.runtime.topics import partition_of

_TELL_SECONDS: Final = 1.0
_EARLIER_MS: Final = 60_000  # a route may have been published before its event, and clocks differ
_ENOUGH_MS: Final = 10_000  # whoever is alive has told something within
_READ_SECONDS: Final = 3.0
_ASK_SECONDS: Final = 2.0
_LONGEST_NAME: Final = 128
_TYPE: Final = "axbridge.router.v1.ViewApplied"

Positions = Mapping[tuple[str, int], int]


class View(Protocol):
    """What is told of a view (`store.ViewWriter`)."""

    @property
    def published(self) -> object | None:
        """Which file readers were given; None while none, or an older one than is written."""

    def positions(self) -> Positions:
        """The offset after the last applied one, by topic and partition."""


class Teller:
    """Tells how far the view of a router is. What Kafka does not take is not told again: the next
    second says more."""

    def __init__(
        self, publisher: Publishing, topic: str, router: str, view: View,
        fresh_at: Callable[[], float], clock: Clock, ids: IdSource,
    ) -> None:  # fmt: skip
        self._publisher, self._topic, self._router = publisher, topic, router
        self._view, self._fresh_at, self._clock, self._ids = view, fresh_at, clock, ids
        self._before: object | None = None

    def run(self, stop: threading.Event) -> None:
        """Tells once a second until `stop` is set."""
        while not stop.wait(_TELL_SECONDS):
            self.tell()

    def tell(self) -> None:
        """Tells once. Of a file that workers may not have opened yet it waits a second: they look
        for a new one four times."""
        before, self._before = self._before, self._view.published
        count = self._publisher.partitions(self._topic)
        if before is None or before != self._before or not count:
            return
        applied = self._view.positions()  # before the time: they were reached by then
        now, fresh_ms = self._clock.epoch_ms(), int(self._fresh_at() * 1000)
        value = report(self._router, now, fresh_ms, applied).SerializeToString()
        headers = Envelope(self._ids.new(), _TYPE, f"router/{self._router}", now).headers()
        place, key = partition_of(self._router, count), self._router.encode()
        self._publisher.publish([Outgoing(self._topic, place, key, value, headers)])


def report(router: str, now_ms: int, fresh_ms: int, positions: Positions) -> events_pb2.ViewApplied:
    """What a router tells."""
    told = events_pb2.ViewApplied(router=router, time=timestamp(now_ms))
    if fresh_ms:
        write_timestamp(told.fresh_time, fresh_ms)
    counts: dict[str, int] = {}
    for topic, partition in positions:
        if partition != IDENTITY:  # not an offset, but which topic of the name it is
            counts[topic] = max(counts.get(topic, 0), partition + 1)
    for topic in sorted(counts):
        offsets = [positions.get((topic, partition), 0) for partition in range(counts[topic])]
        told.positions.add(topic=topic, next_offsets=offsets)
    return told


class Place(NamedTuple):
    """Where a route stands, and since when."""

    topic: str
    partition: int
    offset: int
    time_ms: int


def spread(
    place: Place, told: Iterable[events_pb2.ViewApplied]
) -> list[view_service_pb2.RouterPropagation]:
    """How far the routers are that told something since then. Stops reading once all of them have
    applied it, and all had time to tell something."""
    found: dict[str, view_service_pb2.RouterPropagation] = {}
    for item in told:
        now_ms = milliseconds(item.time)
        one = found.setdefault(item.router, view_service_pb2.RouterPropagation(router=item.router))
        if now_ms >= milliseconds(one.report_time):
            one.report_time.CopyFrom(item.time)
        if _applied(place, item) and not (
            one.HasField("apply_time") and milliseconds(one.apply_time) <= now_ms
        ):
            one.apply_time.CopyFrom(item.time)
        if now_ms > place.time_ms + _ENOUGH_MS and all(
            each.HasField("apply_time") for each in found.values()
        ):
            break
    return [found[router] for router in sorted(found)]


def _applied(place: Place, item: events_pb2.ViewApplied) -> bool:
    return any(
        each.next_offsets[place.partition] > place.offset
        for each in item.positions
        if each.topic == place.topic and place.partition < len(each.next_offsets)
    )


class ViewServicer(view_service_pb2_grpc.ViewServiceServicer):
    """axbridge.router.v1.ViewService."""

    def __init__(self, bootstrap: str, routes_topic: str, views_topic: str) -> None:
        self._bootstrap, self._routes, self._views = bootstrap, routes_topic, views_topic

    def GetPropagation(
        self, request: view_service_pb2.GetPropagationRequest, context: object
    ) -> view_service_pb2.GetPropagationResponse:
        number, binding = request.number, request.binding
        if not is_middle_number(number):
            invalid_field("number")
        if not 0 < len(binding) <= _LONGEST_NAME:
            invalid_field("binding")
        if request.version < 1:
            invalid_field("version")
        event_ms = time_ms_from(request.event_time, "event_time")
        try:
            place = self._place(number, binding, request.version, event_ms)
            if place is None:
                raise NotFound("CHANGE_NOT_PUBLISHED")
            routers = spread(place, self._told(place))
        except (KafkaException, TimeoutError):
            raise Unavailable("LOG_UNAVAILABLE", retry_after=timedelta(seconds=1)) from None
        return view_service_pb2.GetPropagationResponse(
            publish_time=timestamp(place.time_ms), routers=routers
        )

    def _place(self, number: str, binding: str, version: int, event_ms: int) -> Place | None:
        key = f"{number}/{binding}".encode()
        with _Reading(self._bootstrap, self._routes) as reading:
            partition = partition_of(number, reading.partitions)
            for record in reading.since(event_ms - _EARLIER_MS, [partition]):
                with contextlib.suppress(Malformed):  # parked by the views: no version of it
                    if record.key == key and record.envelope.version >= version:
                        return Place(self._routes, partition, record.offset, record.timestamp_ms)
        return None

    def _told(self, place: Place) -> Iterator[events_pb2.ViewApplied]:
        with _Reading(self._bootstrap, self._views) as reading:
            try:
                for record in reading.since(place.time_ms, range(reading.partitions)):
                    with contextlib.suppress(DecodeError):
                        yield events_pb2.ViewApplied.FromString(record.value or b"")
            except TimeoutError:
                return  # a router that is gone for days: what was read so far tells enough


class _Reading:
    """A topic read once, to where it ends at that time. Raises KafkaException, TimeoutError."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._topic, self._until = topic, time.monotonic() + _READ_SECONDS
        self._consumer = Consumer({
            "bootstrap.servers": bootstrap, "group.id": "unused", "enable.auto.commit": False,
            "enable.partition.eof": True, "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 10,
        })  # fmt: skip

    def __enter__(self) -> "_Reading":
        try:
            known = self._consumer.list_topics(self._topic, timeout=_ASK_SECONDS)
            found = known.topics[self._topic]
            if found.error is not None or not found.partitions:
                raise KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART, self._topic))
            self.partitions = len(found.partitions)
        except BaseException:
            self._consumer.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def since(self, time_ms: int, partitions: Iterable[int]) -> Iterator[Record]:
        """The records since that time, partition by partition as they come."""
        asked = [TopicPartition(self._topic, each, max(0, time_ms)) for each in partitions]
        self._consumer.assign(self._consumer.offsets_for_times(asked, timeout=_ASK_SECONDS))
        ended: set[Any] = set()
        while len(ended) < len(asked):
            if time.monotonic() > self._until:
                raise TimeoutError
            for message in self._consumer.consume(1000, 0.1):
                error = message.error()
                if error is not None and error.code() == KafkaError._PARTITION_EOF:
                    ended.add(message.partition())
                elif (record := to_record(message)) is not None:
                    yield record
