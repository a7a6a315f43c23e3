"""The journal: on disk before it returns, gap-free, bounded, and honest when the disk is not."""

import errno
import os
import threading
from pathlib import Path

import pytest

from services.router.journal import _RESERVED, Journal, Limits
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
    limits = Limits(segment_bytes=100, folder_bytes=400, sync_seconds=60)
    journal = Journal(tmp_path, "r1-0", limits)
    while journal.used_bytes < 400:
        journal.append(0, 1, b"k", value)
    with pytest.raises(ResourceExhausted, match="JOURNAL_FULL"):
        journal.append(0, 1, b"k", value)
    kept = len(items(tmp_path))
    for segment in list_segments(tmp_path)[:-1]:  # the shipper had its turn
        segment.path.unlink()
    journal._count()
    assert journal.append(0, 1, b"k", value) == kept + 1
    journal.close()


def test_what_is_set_aside_is_not_counted_and_ends_with_the_segment(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "r1-0")
    journal.append(0, 1, b"k", value)
    [segment] = list_segments(tmp_path)
    assert segment.path.stat().st_size == _RESERVED
    before = journal.used_bytes
    journal._count()
    assert journal.used_bytes == before < 100
    journal.append(
        0, 1, b"k", lambda _j, _s: bytes(3 * _RESERVED)
    )  # more than is set aside at once
    assert segment.path.stat().st_size == 4 * _RESERVED
    journal.close()
    assert segment.path.stat().st_size == before + 30 + 3 * _RESERVED  # head and key
    assert [item.sequence for item in items(tmp_path)] == [1, 2]


def test_a_full_disk_is_found_before_the_event_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "posix_fallocate", _refuse)
    journal = Journal(tmp_path, "r1-0", Limits(sync_seconds=60))  # starts on a full disk, too
    for _ in range(2):
        with pytest.raises(ResourceExhausted, match="JOURNAL_FULL"):
            journal.append(0, 1, b"k", value)
    monkeypatch.undo()
    assert journal.append(0, 1, b"k", value) == 1
    monkeypatch.setattr(os, "posix_fallocate", _refuse)
    assert journal.append(0, 1, b"k", value) == 2  # into what is set aside
    with pytest.raises(ResourceExhausted, match="JOURNAL_FULL"):
        journal.append(0, 1, b"k", lambda _j, _s: bytes(_RESERVED))
    monkeypatch.undo()
    assert journal.append(0, 1, b"k", value) == 3
    journal.close()
    assert [item.sequence for item in items(tmp_path)] == [1, 2, 3]


def test_a_segment_goes_on_where_no_other_can_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = Limits(segment_bytes=100, segment_seconds=0.0, sync_seconds=60)
    journal = Journal(tmp_path, "r1-0", limits)
    monkeypatch.setattr(os, "open", _refuse)
    for _ in range(3):
        journal.append(0, 1, b"k", value)
    journal._sync()
    assert not journal.failed
    monkeypatch.undo()
    journal.append(0, 1, b"k", value)
    journal.close()
    assert len(list_segments(tmp_path)) == 2
    assert [item.sequence for item in items(tmp_path)] == [1, 2, 3, 4]


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


def test_an_event_that_no_frame_can_hold_is_refused_and_takes_no_sequence(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "w")
    with pytest.raises(ValueError, match="too long"):
        journal.append(0, 1, b"k", lambda *_: bytes(1024 * 1024))
    assert journal.append(0, 1, b"k", lambda *_: b"v") == 1
    journal.close()
