"""The journal: on disk before it returns, gap-free, bounded, and honest when the disk is not."""

import errno
import os
import threading
from pathlib import Path

import pytest

from services.router.journal import Journal, Limits
from services.router.segments import Item, list_segments, read
from services.runtime.errors import ResourceExhausted


def value(journal: str, sequence: int) -> bytes:
    return f"{journal}:{sequence}".encode()


def items(folder: Path) -> list[Item]:
    return [
        item
        for segment in list_segments(folder)
        for item in read(segment.path.read_bytes(), 0, closed=True).items
    ]


def test_an_event_is_in_the_file_when_append_returns(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "r1-0")
    assert journal.append(0, 5, b"c/1", value) == 1
    assert items(tmp_path) == [Item(1, 5, 0, b"c/1", f"{journal.name}:1".encode())]
    assert journal.name.startswith("r1-0-")
    journal.close()


def test_boots_have_names_of_their_own(tmp_path: Path) -> None:
    first, second = Journal(tmp_path, "r1-0"), Journal(tmp_path, "r1-0")
    assert first.name != second.name
    first.close()
    second.close()


def test_many_threads_leave_no_gap(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "r1-0", Limits(segment_bytes=2000))
    threads = [
        threading.Thread(target=lambda: [journal.append(0, 1, b"k", value) for _ in range(200)])
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    journal.close()
    assert [item.sequence for item in items(tmp_path)] == list(range(1, 1601))
    assert len(list_segments(tmp_path)) > 10


def test_a_full_folder_refuses(tmp_path: Path) -> None:
    limits = Limits(folder_bytes=400, count_seconds=0.01, sync_seconds=0.01)
    journal = Journal(tmp_path, "r1-0", limits)
    while journal.used_bytes < 400:
        journal.append(0, 1, b"k", value)
    with pytest.raises(ResourceExhausted, match="JOURNAL_FULL"):
        journal.append(0, 1, b"k", value)
    kept = len(items(tmp_path))
    for segment in list_segments(tmp_path):  # the shipper had its turn
        os.truncate(segment.path, 0)
    journal._count()
    assert journal.append(0, 1, b"k", value) == kept + 1
    journal.close()


def test_a_write_that_stops_half_way_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path, "r1-0")
    journal.append(0, 1, b"k", value)
    real = os.write

    def half(file: int, data: bytes) -> int:
        return real(file, data[: len(data) // 2])

    def none(file: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "full")

    for broken in (half, none):
        monkeypatch.setattr(os, "write", broken)
        with pytest.raises(ResourceExhausted, match="JOURNAL_FULL"):
            journal.append(0, 1, b"k", value)
    monkeypatch.setattr(os, "write", real)
    assert journal.append(0, 1, b"k", value) == 2
    journal.close()
    assert [item.sequence for item in items(tmp_path)] == [1, 2]


def test_a_torn_write_that_cannot_be_taken_back_ends_the_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path, "r1-0")
    journal.append(0, 1, b"k", value)
    real = os.write
    monkeypatch.setattr(os, "write", lambda f, d: real(f, d[:9]))
    monkeypatch.setattr(os, "ftruncate", _refuse)
    with pytest.raises(ResourceExhausted):
        journal.append(0, 1, b"k", value)
    monkeypatch.undo()
    journal.append(0, 1, b"k", value)
    journal.close()
    assert len(list_segments(tmp_path)) == 2
    assert [item.sequence for item in items(tmp_path)] == [1, 2]


def test_an_event_that_cannot_be_made_takes_no_number(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "r1-0")

    def broken(_journal: str, _sequence: int) -> bytes:
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        journal.append(0, 1, b"k", broken)
    assert journal.append(0, 1, b"k", value) == 1
    journal.close()


def test_a_disk_that_loses_an_fsync_refuses_from_then_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path, "r1-0", Limits(sync_seconds=0.001))
    monkeypatch.setattr(os, "fsync", _refuse)
    journal.append(0, 1, b"k", value)
    journal._syncer.join(5)
    assert journal.failed
    with pytest.raises(ResourceExhausted):
        journal.append(0, 1, b"k", value)
    monkeypatch.undo()
    journal.close()


def test_segments_close_by_age(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "r1-0", Limits(segment_seconds=0.0, sync_seconds=60))
    journal.append(0, 1, b"k", value)
    journal._sync()
    assert len(list_segments(tmp_path)) == 2
    journal._sync()  # an empty one stays
    assert len(list_segments(tmp_path)) == 2
    journal.close()


def _refuse(*_: object) -> None:
    raise OSError(errno.EIO, "broken")
