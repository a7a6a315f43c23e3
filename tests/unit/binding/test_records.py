"""What goes to which topic, partition and key, under which event id."""

from dataclasses import replace

import pytest
from axbridge.binding.v1 import events_pb2
from axbridge.runtime.v1 import outbox_pb2

from services.binding.domain import Answered, Mode, Reason
from services.binding.messages import Copies, binding_of, read_route, read_state
from services.binding.records import Records
from services.runtime.aead import Sealed
from services.runtime.clock import ManualClock
from services.runtime.options import Options
from services.runtime.topics import partition_of
from tests.unit.binding.memory import DAY_MS, binding

CLOCK = ManualClock()
NOW = CLOCK.epoch_ms()
BOX = Sealed("purge/didi/202607", b"\x01box")
COPIES = Copies(BOX, BOX, None, BOX)
PARTITIONS = {
    "binding.bindings.v1": 4, "binding.state.v1": 8, "binding.routes.v1": 16, "binding.keys.v1": 2,
}  # fmt: skip
RECORDS = Records(PARTITIONS)


def test_an_entry_holds_state_route_and_event_on_the_numbers_partition() -> None:
    made = binding(CLOCK, "b1")
    _, entry = RECORDS.entry(made, COPIES)
    records = outbox_pb2.OutboxEntry.FromString(entry).records
    assert [r.topic for r in records] == [
        "binding.state.v1", "binding.routes.v1", "binding.bindings.v1",
    ]  # fmt: skip
    for record in records:
        assert record.key == b"700100000010001/b1"
        assert record.partition == partition_of(made.number, PARTITIONS[record.topic])
        assert record.version == 1
    state, route, _ = records
    assert read_route(route.value).version == 1
    assert read_state(state.value) is not None
    assert RECORDS.entry(made, COPIES) == RECORDS.entry(made, COPIES)


@pytest.mark.parametrize("kind", ["BindingCreated", "BindingUpdated", "BindingReleased"])
def test_an_event_is_named_by_binding_and_version(kind: str) -> None:
    made = binding(CLOCK, "b1")
    if kind == "BindingUpdated":
        made = made.updated(1, NOW + DAY_MS, Answered("r", b"h" * 16, NOW, 0))
    elif kind == "BindingReleased":
        made = made.released(NOW, Reason.REQUESTED)
    _, entry = RECORDS.entry(made, COPIES)
    event = outbox_pb2.OutboxEntry.FromString(entry).records[2]
    assert event.event_id == f"b1-{made.version}"
    assert event.type == f"axbridge.binding.v1.{kind}"
    parsed = getattr(events_pb2, kind).FromString(event.value)
    assert parsed.fact.aggregate_version == made.version
    assert made.tag_a not in event.value


def test_tombstones_empty_both_compacted_topics() -> None:
    entry = outbox_pb2.OutboxEntry.FromString(RECORDS.tombstones(NUMBERS[:1], "b1", 2, 5))
    assert [(r.topic, r.tombstone, r.version) for r in entry.records] == [
        ("binding.routes.v1", True, 2),
        ("binding.state.v1", True, 2),
    ]


NUMBERS = ("700100000010001", "700100000010009")


def test_two_numbers_have_a_route_each_and_one_state_and_event() -> None:
    made = binding(CLOCK, "b1", second_epoch=9)
    options = Options(numbers="-".join(NUMBERS))
    made = replace(made, terms=replace(made.terms, mode=Mode.AXYB, options=options))
    _, entry = RECORDS.entry(made, COPIES)
    state, *routes, event = outbox_pb2.OutboxEntry.FromString(entry).records
    assert [r.key.decode() for r in routes] == [f"{number}/b1" for number in NUMBERS]
    x, y = (events_pb2.Route.FromString(r.value) for r in routes)
    assert (x.lease_epoch, x.other_lease_epoch) == (7, 9)
    for route in (x, y):
        assert binding_of(events_pb2.BindingRecord(route=route)).numbers == NUMBERS
        assert binding_of(events_pb2.BindingRecord(route=route)).second_epoch == 9
    assert {state.key, event.key} == {routes[0].key}
    fact = events_pb2.BindingCreated.FromString(event.value).fact
    assert (fact.second_number, fact.second_lease_epoch) == (NUMBERS[1], 9)
    entry = RECORDS.tombstones(NUMBERS, "b1", 2, 5)
    gone = outbox_pb2.OutboxEntry.FromString(entry).records
    assert [r.key for r in gone] == [routes[0].key, routes[1].key, routes[0].key]


def test_a_cell_and_a_route_key_have_records_of_their_own() -> None:
    cell = RECORDS.cell("c0", 3, 5)
    assert (cell.key, cell.version, read_state(cell.value)) == (b"cell/c0", 3, None)
    entry = RECORDS.route_key("route/didi/20260101", b"value", 5)
    record = outbox_pb2.OutboxEntry.FromString(entry).records[0]
    assert (record.key, record.value, record.version) == (b"route/didi/20260101", b"value", 1)
    end = RECORDS.route_key("route/didi/20260101", b"", 5, 2)
    record = outbox_pb2.OutboxEntry.FromString(end).records[0]
    assert (record.tombstone, record.value, record.version) == (True, b"", 2)
