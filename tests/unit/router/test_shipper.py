"""The shipper: nothing before the ack is forgotten, nothing is deleted before it."""

import os
import subprocess
import sys
import threading
from pathlib import Path

from services.router.journal import Journal, Limits
from services.router.packed import unreadable
from services.router.segments import CALLED, HEADER, Item, frame, list_segments, segment_path
from services.router.shipper import _STRETCH, Shipper
from services.runtime.envelope import parse
from services.runtime.topics import partition_of
from tests.unit.router.journals import MemoryPublisher

TOPIC = "router.calls.v1"


def value(journal: str, sequence: int) -> bytes:
    return b"v%d" % sequence


def shipper(folder: Path, kafka: MemoryPublisher) -> Shipper:
    return Shipper(kafka, folder, TOPIC, lambda _, item: item.value)


def test_ships_a_live_journal_with_its_envelope(tmp_path: Path) -> None:
    kafka, journal = MemoryPublisher(), Journal(tmp_path, "r1-0")
    journal.append(1, 1_700_000_000_123, b"cmcc/1", value)
    ship = shipper(tmp_path, kafka)
    assert ship.ship()
    assert not ship.ship()
    [record] = kafka.topic
    envelope = parse(record.headers)
    assert (record.topic, record.key, record.value) == (TOPIC, b"cmcc/1", b"v1")
    assert record.partition == partition_of("cmcc/1", 4)
    assert envelope.event_id == f"{journal.name}-1"
    assert envelope.type == "axbridge.router.v1.CallRefused"
    assert (envelope.time_ms, envelope.sequence) == (1_700_000_000_123, 1)
    assert len(list_segments(tmp_path)) == 1  # open: it may grow
    journal.close()
    assert ship.ship()
    assert [path.name for path in tmp_path.iterdir()] == ["shipped"]
    assert ship.waiting_bytes() == 0


def test_a_last_caller_goes_to_its_own_topic_and_the_numbers_partition(tmp_path: Path) -> None:
    kafka, journal = MemoryPublisher(), Journal(tmp_path, "r1-0")
    journal.append(CALLED, 1, b"700100000010001/b1", value)
    journal.append(0, 2, b"cmcc/1", value)
    Shipper(kafka, tmp_path, TOPIC, lambda _, item: item.value, "router.callers.v1").ship()
    journal.close()
    last, call = kafka.topic
    assert (last.topic, call.topic) == ("router.callers.v1", TOPIC)
    assert last.partition == partition_of("700100000010001", 4)
    assert parse(last.headers).type == "axbridge.router.v1.LastCaller"


def test_waits_for_kafka(tmp_path: Path) -> None:
    kafka, journal = MemoryPublisher(), Journal(tmp_path, "r1-0")
    journal.append(0, 1, b"cmcc/1", value)
    kafka.away = True
    ship = shipper(tmp_path, kafka)
    assert not ship.ship()
    kafka.away = False
    assert ship.ship()
    journal.close()


def test_sends_again_what_was_not_acknowledged(tmp_path: Path) -> None:
    kafka, journal = MemoryPublisher(), Journal(tmp_path, "r1-0")
    journal.append(0, 1, b"cmcc/1", value)
    journal.close()
    kafka.fail = ["not applied", "applied"]
    ship = shipper(tmp_path, kafka)
    assert not ship.ship()
    assert len(list_segments(tmp_path)) == 1
    assert not ship.ship()
    assert ship.ship()
    assert kafka.ids() == [f"{journal.name}-1"] * 2  # one id, however often
    assert ship.shipped == 1
    assert list_segments(tmp_path) == []


def test_goes_on_where_its_predecessor_stopped(tmp_path: Path) -> None:
    kafka, journal = MemoryPublisher(), Journal(tmp_path, "r1-0")
    journal.append(0, 1, b"cmcc/1", value)
    shipper(tmp_path, kafka).ship()
    journal.append(0, 1, b"cmcc/1", value)
    shipper(tmp_path, kafka).ship()
    assert kafka.ids() == [f"{journal.name}-1", f"{journal.name}-2"]
    (tmp_path / "shipped").write_text("nonsense")
    shipper(tmp_path, kafka).ship()
    assert len(kafka.topic) == 4  # positions lost: sent again, never skipped
    journal.close()


def test_ships_what_a_killed_worker_left(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from services.router.journal import Journal\n"
        "journal = Journal(Path(sys.argv[1]), 'r1-0')\n"
        "for _ in range(50): journal.append(0, 1, b'cmcc/1', lambda j, s: b'v')\n"
        "torn = b'\\xa7J torn'\n"
        "journal._map[journal._size : journal._size + len(torn)] = torn\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=environment, check=False)
    kafka = MemoryPublisher()
    ship = shipper(tmp_path, kafka)
    assert ship.ship()
    assert [int(name.rsplit("-", 1)[1]) for name in kafka.ids()] == list(range(1, 51))
    assert ship.damaged == 7  # and not what the worker had set aside behind it
    assert list_segments(tmp_path) == []


def test_a_journal_keeps_its_order_over_segments(tmp_path: Path) -> None:
    kafka = MemoryPublisher()
    journal = Journal(tmp_path, "r1-0", Limits(segment_bytes=3 * 1024 * 1024))
    for _ in range(80):
        journal.append(0, 1, b"cmcc/1", lambda _j, _s: bytes(100_000))
    journal.close()
    ship = shipper(tmp_path, kafka)
    while ship.ship():
        pass
    assert [int(name.rsplit("-", 1)[1]) for name in kafka.ids()] == list(range(1, 81))


def test_a_stretch_without_a_frame_does_not_stop_it(tmp_path: Path) -> None:
    good = frame(9, 1, 0, b"cmcc/1", b"v")
    segment_path(tmp_path, "r1-0-dead", 1).write_bytes(bytes(_STRETCH + 77) + good)
    kafka = MemoryPublisher()
    ship = shipper(tmp_path, kafka)
    while list_segments(tmp_path):
        ship.ship()
    assert kafka.ids() == ["r1-0-dead-9"]
    assert ship.damaged == _STRETCH + 77


def test_ships_the_rest_when_it_is_stopped(tmp_path: Path) -> None:
    kafka, journal = MemoryPublisher(), Journal(tmp_path, "r1-0")
    journal.append(0, 1, b"cmcc/1", value)
    stop = threading.Event()
    stop.set()
    shipper(tmp_path, kafka).run(stop)
    assert len(kafka.topic) == 1
    journal.close()


def test_a_segment_of_another_format_is_left_for_who_reads_it(tmp_path: Path) -> None:
    left = segment_path(tmp_path, "r1-0-dead", 1)
    left.write_bytes(HEADER[:-1] + b"\xff" + bytes(100))
    segment_path(tmp_path, "r1-1-dead", 1).write_bytes(HEADER + frame(1, 1, 0, b"cmcc/1", b"v"))
    kafka = MemoryPublisher()
    ship = shipper(tmp_path, kafka)
    assert ship.ship()
    assert not ship.ship()
    assert kafka.ids() == ["r1-1-dead-1"]
    assert [segment.path for segment in list_segments(tmp_path)] == [left]
    assert ship.damaged == 0


def test_an_item_that_does_not_open_is_passed_and_its_segment_set_aside(tmp_path: Path) -> None:
    def value_of(_journal: str, item: Item) -> bytes:
        if item.sequence == 2:
            raise unreadable()
        return item.value

    kafka, journal = MemoryPublisher(), Journal(tmp_path, "r1-0")
    for _ in range(3):
        journal.append(0, 1, b"cmcc/1", value)
    journal.close()
    [segment] = list_segments(tmp_path)
    written = segment.path.read_bytes()
    ship = Shipper(kafka, tmp_path, TOPIC, value_of)
    assert ship.ship()
    assert kafka.ids() == [f"{journal.name}-1", f"{journal.name}-3"]
    assert ship.damaged == 2
    assert list_segments(tmp_path) == []
    aside = segment.path.with_name(f"{segment.path.name}.unreadable")
    assert aside.read_bytes() == written
