"""Order, repeats and rest of what waits for a platform."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from services.router.pushevents import decode
from services.router.pushqueue import BATCH, PushQueue, Queued
from services.runtime.clock import ManualClock
from services.runtime.record import Record
from tests.unit.router.pushes import TENANT, bound, progressed, routed


class Subject:
    def __init__(self, path: Path) -> None:
        self.path, self.clock = path, ManualClock()
        self.queue = self.opened()

    def opened(self, wanted: str = TENANT) -> PushQueue:
        return PushQueue(self.path, lambda tenant: tenant == wanted, self.clock.epoch_ms)

    def feed(self, *records: Record) -> None:
        self.queue.apply(
            [(each, decode(each)) for each in records],
            {(each.topic, 0): each.offset + 1 for each in records},
        )

    def due(self) -> list[Queued]:
        return self.queue.due(TENANT)

    def ids(self) -> list[str]:
        return [each.item.event_id for each in self.due()]


@pytest.fixture
def s(tmp_path: Path) -> Iterator[Subject]:
    subject = Subject(tmp_path / "push.sqlite")
    yield subject
    subject.queue.close()


def test_events_go_in_order_and_count_per_binding(s: Subject) -> None:
    s.feed(bound("b1"), bound("b2"), routed("c1", "b1"), progressed("c1", 1))
    assert s.ids() == ["b1-1", "b2-1", "routed-c1", "progress-c1-1"]
    assert [each.sequence for each in s.due()] == [1, 1, 2, 3]
    s.queue.delivered(s.due())
    assert s.due() == []
    assert s.queue.tenants() == []


def test_a_report_of_an_unknown_call_or_a_tenant_without_endpoint_is_passed_over(
    s: Subject,
) -> None:
    s.feed(progressed("nobody", 1))
    s.queue.close()
    s.queue = s.opened(wanted="other")
    s.feed(bound("b1"))
    assert s.due() == []


def test_repeats_are_queued_once_also_after_delivery_and_a_restart(s: Subject) -> None:
    one = bound("b1")
    s.feed(one, one)
    s.queue.delivered(s.due())
    s.queue.close()
    s.queue = s.opened()
    assert s.queue.positions() == {(one.topic, 0): one.offset + 1}
    s.queue.void(dict.fromkeys(s.queue.positions(), "TOPIC_REPLACED"))
    assert s.queue.positions() == {}
    s.feed(one)
    assert s.due() == []


def test_a_refused_event_goes_alone_and_holds_up_its_own_binding_only(s: Subject) -> None:
    s.feed(bound("b1"), bound("b2"), bound("b1", 2))
    batch = s.due()
    s.queue.failed(batch, 1000, refused=True)
    assert s.ids() == ["b1-1"]  # each by itself now
    s.queue.failed(s.due(), 1000, refused=True)
    assert s.ids() == ["b2-1"]
    s.queue.delivered(s.due())
    assert s.ids() == []  # b1's second waits behind its first
    s.clock.advance(timedelta(seconds=1))
    assert s.ids() == ["b1-1"]
    s.queue.delivered(s.due())
    assert s.ids() == ["b1-2"]


def test_an_event_undelivered_for_a_day_is_parked_and_can_be_taken_up(s: Subject) -> None:
    s.feed(bound("b1"))
    assert s.queue.failed(s.due(), 0, refused=False) == 0
    s.clock.advance(timedelta(days=1))
    s.feed(bound("b2"))
    assert s.queue.failed(s.due(), 0, refused=False) == 1
    assert s.ids() == ["b2-1"]
    assert s.queue.counts() == (1, 1)
    assert s.queue.redrive(TENANT) == 1
    assert s.ids() == ["b1-1", "b2-1"]


def test_a_batch_is_bounded(s: Subject) -> None:
    s.feed(*(bound(f"b{n}") for n in range(BATCH + 1)))
    assert len(s.due()) == BATCH


def test_what_fails_half_way_leaves_queue_and_positions(s: Subject) -> None:
    one, two = bound("b1"), bound("b2")
    with pytest.raises(AttributeError):
        s.queue.apply([(one, decode(one)), (two, object())], {(one.topic, 0): 99})  # type: ignore[list-item]
    assert s.due() == []
    assert s.queue.positions() == {}


def test_what_belongs_to_ended_bindings_is_forgotten(s: Subject) -> None:
    s.feed(bound("b1"), bound("b1", 2, ended=True))
    s.queue.delivered(s.due())
    s.clock.advance(timedelta(days=3))
    s.feed(routed("c1", "b1"))
    [late] = s.due()
    assert (late.sequence, late.about) == (1, None)
