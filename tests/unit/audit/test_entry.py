"""Every record becomes one entry: the event octet for octet, or what stands for it."""

from dataclasses import replace
from hashlib import sha256

import pytest
from axbridge.audit.v1.entry_pb2 import Entry, ParkedEvent
from hypothesis import given
from hypothesis import strategies as st

from services.audit.entry import EntryMaker, event_id_of, event_of, types_of
from services.audit.tiles import MAX_ENTRY
from services.runtime.errors import Malformed
from services.runtime.record import Record
from services.runtime.topics import BINDING_BINDINGS, EVENT_TOPICS
from tests.audit_events import TIME_MS, created, record, routed

TYPES = types_of(BINDING_BINDINGS)


class MemoryParking:
    def __init__(self) -> None:
        self.parked: list[tuple[Record, str]] = []

    def park(self, record: Record, reason: Malformed) -> None:
        self.parked.append((record, reason.reason))


def test_an_entry_has_all_of_the_record() -> None:
    some = record(created("b1"), "e7", partition=3, offset=11, key=b"\x00k", time_ms=TIME_MS + 5)
    event = event_of(some, TYPES)
    entry = Entry.FromString(event.entry)
    assert (event.event_id, event_id_of(event.entry)) == (b"e7", b"e7")
    assert (entry.type, entry.source) == ("axbridge.binding.v1.BindingCreated", "test")
    assert (entry.topic, entry.partition, entry.offset) == ("binding.bindings.v1", 3, 11)
    assert (entry.key, entry.value) == (some.key, some.value)
    assert entry.time.ToMilliseconds() == TIME_MS + 5


def headers_with(name: str, value: bytes) -> Record:
    some = record(created("b1"))
    return replace(some, headers=[*some.headers, (name, value)])


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (replace(record(created("b1")), headers=[]), "ENVELOPE_MALFORMED"),
        (headers_with("ce_time", b"yesterday"), "ENVELOPE_MALFORMED"),
        (headers_with("ce_time", b"0001-01-01T00:00:00"), "ENVELOPE_MALFORMED"),
        (headers_with("ce_id", b""), "EVENT_ID_INVALID"),
        (headers_with("ce_id", b"x" * 201), "EVENT_ID_INVALID"),
        (headers_with("ce_id", b"parked/t/0/1"), "EVENT_ID_INVALID"),
        (record(routed("c1")), "TYPE_UNKNOWN"),
        (replace(record(created("b1")), value=None), "VALUE_MISSING"),
        (replace(record(created("b1")), value=b"\xff\xff\xff"), "VALUE_UNDECODABLE"),
        (record(created("b" * MAX_ENTRY)), "ENTRY_TOO_LONG"),
    ],
)
def test_what_is_no_event_is_parked_and_its_hash_is_the_entry(bad: Record, reason: str) -> None:
    parking = MemoryParking()
    event = EntryMaker(EVENT_TOPICS, parking)(replace(bad, partition=2, offset=9, key=b"secret"))
    assert [why for _, why in parking.parked] == [reason]
    entry = Entry.FromString(event.entry)
    assert event.event_id == b"parked/binding.bindings.v1/2/9" == event_id_of(event.entry)
    assert (entry.topic, entry.partition, entry.offset) == ("binding.bindings.v1", 2, 9)
    assert (entry.type, entry.key) == ("axbridge.audit.v1.ParkedEvent", b"")
    assert ParkedEvent.FromString(entry.value) == ParkedEvent(
        topic="binding.bindings.v1",
        partition=2,
        offset=9,
        sha256=sha256(bad.value or b"").digest(),
        reason=reason,
    )


@given(
    value=st.none() | st.binary(max_size=50),
    headers=st.lists(
        st.tuples(
            st.sampled_from(["ce_id", "ce_type", "ce_source", "ce_time", "ce_axversion"]),
            st.none()
            | st.binary(max_size=20)
            | st.sampled_from([b"axbridge.binding.v1.BindingCreated", b"2026-01-01T00:00:00Z"]),
        )
    ),
)
def test_any_record_gives_an_entry(
    value: bytes | None, headers: list[tuple[str, bytes | None]]
) -> None:
    some = Record("binding.bindings.v1", 0, 1, b"", value, list(headers), -1)
    event = EntryMaker(EVENT_TOPICS, MemoryParking())(some)
    assert event_id_of(event.entry) == event.event_id
    assert len(event.entry) <= MAX_ENTRY


def test_every_type_of_the_catalogue_is_known() -> None:
    assert all(types_of(topic) for topic in EVENT_TOPICS)
