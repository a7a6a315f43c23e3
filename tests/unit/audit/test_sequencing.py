"""Leaves and positions move together, groups share appends, and a failure is not swallowed."""

import contextlib
import json
import threading
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from deploy.local.waiting import eventually
from services.audit.entry import event_id_of, event_of, same_event, types_of
from services.audit.logfolder import Event, LogFolder
from services.audit.sequencing import (
    MOST_WAITING,
    Sequencing,
    decode_positions,
    encode_positions,
)
from services.runtime.consumer import Position
from services.runtime.errors import FailedPrecondition
from services.runtime.metrics import Metrics
from services.runtime.record import Record
from services.runtime.topics import BINDING_BINDINGS
from tests.audit_events import created, record
from tests.parking import MemoryParking

ORIGIN = "axbridge.example/log"
TOPIC = "binding.bindings.v1"


def open_log(root: Path) -> LogFolder:
    return LogFolder.open(root, ORIGIN, event_id_of)


def group(*offsets: int) -> tuple[list[tuple[Record, Event]], dict[Position, int]]:
    records = [record(created("b"), f"e{offset}", offset=offset) for offset in offsets]
    types = types_of(BINDING_BINDINGS)
    return [(r, event_of(r, types)) for r in records], {(TOPIC, 0): offsets[-1] + 1}


def until(condition: threading.Event) -> None:
    assert condition.wait(10)


def test_groups_that_come_close_share_an_append(tmp_path: Path) -> None:
    folder = open_log(tmp_path)
    registry = CollectorRegistry()
    sequencing = Sequencing(folder, Metrics("audit", registry), linger_seconds=0.2)
    for offset in range(20):
        sequencing.apply(*group(offset))
    sequencing.apply(*group(3, 4))  # repeats
    sequencing.close()
    assert folder.log.checkpoint.size == 20
    assert decode_positions(folder.log.state) == {(TOPIC, 0): 5}
    assert registry.get_sample_value("audit_batch_events_count") == 1
    assert registry.get_sample_value("audit_leaves_total") == 20
    assert registry.get_sample_value("audit_repeats_total") == 2
    folder.close()


def test_a_lone_event_is_published_without_another_one(tmp_path: Path) -> None:
    folder = open_log(tmp_path)
    sequencing = Sequencing(folder, Metrics("audit"))
    for offset in range(3):
        sequencing.apply(*group(offset))
        eventually(lambda: folder.log.checkpoint.size == offset + 1)  # noqa: B023
    sequencing.close()
    folder.close()


def test_positions_come_back_and_are_kept_for_topics_not_read_now(tmp_path: Path) -> None:
    folder = open_log(tmp_path)
    folder.append([], encode_positions({("another", 7): 3}))
    sequencing = Sequencing(folder, Metrics("audit"))
    assert sequencing.positions() == {("another", 7): 3}
    sequencing.apply(*group(0))
    sequencing.apply([], {(TOPIC, 1): 9})
    sequencing.close()
    folder.close()
    folder = open_log(tmp_path)
    assert decode_positions(folder.log.state) == {
        ("another", 7): 3, (TOPIC, 0): 1, (TOPIC, 1): 9,
    }  # fmt: skip
    folder.close()


class FullDisk:
    """A log folder whose appends fail, or wait until the test lets them."""

    def __init__(self, folder: LogFolder) -> None:
        self.log = folder.log
        self.go = threading.Event()

    def append(self, events: object, state: bytes, contradicted: object) -> None:
        self.go.wait(10)
        raise OSError("full")


def test_a_failure_reaches_the_loop_and_stops_it(tmp_path: Path) -> None:
    folder = open_log(tmp_path)
    failed = threading.Event()
    broken = FullDisk(folder)
    sequencing = Sequencing(broken, Metrics("audit"), failed.set)  # type: ignore[arg-type]
    sequencing.apply(*group(0))
    broken.go.set()
    until(failed)
    with pytest.raises(OSError, match="full"):
        sequencing.apply(*group(1))
    with pytest.raises(OSError, match="full"):
        sequencing.close()
    folder.close()


def test_the_loop_waits_when_too_much_waits(tmp_path: Path) -> None:
    folder = open_log(tmp_path)
    broken = FullDisk(folder)
    sequencing = Sequencing(broken, Metrics("audit"))  # type: ignore[arg-type]
    items, moved = group(0)

    def feed() -> None:
        for _ in range(MOST_WAITING // 100 + 30):
            with contextlib.suppress(OSError):
                sequencing.apply(items * 100, moved)

    feeding = threading.Thread(target=feed)
    feeding.start()
    feeding.join(0.5)
    assert feeding.is_alive()
    broken.go.set()
    feeding.join(10)
    assert not feeding.is_alive()
    with pytest.raises(OSError, match="full"):
        sequencing.close()
    folder.close()


def test_positions_are_json_and_round_trip() -> None:
    positions = {("b", 10): 1, ("b", 2): 3, ("a", 0): 1 << 60}
    state = encode_positions(positions)
    assert json.loads(state)["positions"]["b"] == {"2": 3, "10": 1}
    assert decode_positions(state) == positions
    assert decode_positions(b"") == {}


def test_void_positions_end_it_unless_a_person_accepts_them(tmp_path: Path) -> None:
    folder = open_log(tmp_path)
    sequencing = Sequencing(folder, Metrics("audit"))
    sequencing.apply(*group(0, 1))
    assert sequencing.positions() == {(TOPIC, 0): 2}  # waits for what was taken
    with pytest.raises(FailedPrecondition, match="LOG_WENT_BACK partition=0"):
        sequencing.void({(TOPIC, 0): "LOG_WENT_BACK"})
    sequencing.close()
    sequencing = Sequencing(folder, Metrics("audit"), accept_void=True)
    sequencing.void({(TOPIC, 0): "LOG_WENT_BACK"})
    assert sequencing.positions() == {}
    sequencing.apply(*group(0))  # a leaf already
    assert sequencing.positions() == {(TOPIC, 0): 1}
    assert folder.log.checkpoint.size == 2
    sequencing.close()
    folder.close()


def test_an_event_id_with_other_content_is_parked_and_its_place_a_leaf(tmp_path: Path) -> None:
    folder = LogFolder.open(tmp_path, ORIGIN, event_id_of, same_event)
    parking = MemoryParking()
    sequencing = Sequencing(folder, Metrics("audit"), parking=parking)
    sequencing.apply(*group(0, 1))
    types = types_of(BINDING_BINDINGS)
    repeat, other = record(created("b"), "e1", offset=2), record(created("c"), "e1", offset=3)
    items = [(each, event_of(each, types)) for each in (repeat, other)]
    sequencing.apply(items, {(TOPIC, 0): 4})
    sequencing.close()
    assert parking.parked == [(other, "VERSION_CONTRADICTED")]
    assert folder.log.checkpoint.size == 3
    assert event_id_of(folder.log.tree.entry(2)).decode() == f"parked/{other.topic}/0/3"
    folder.close()
