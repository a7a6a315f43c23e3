"""Which file of the view is trusted, and which is folded anew."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from services.router import viewfile
from services.router.store import ViewWriter
from services.router.view import FORMAT
from services.runtime.clock import ManualClock
from services.runtime.record import Record
from tests.unit.router.routes import route


def feed(writer: ViewWriter) -> None:
    writer.apply([(Record("routes", 0, 0, b"", b"", [], 0), route())], {("routes", 0): 1})


def restart(folder: Path, clock: ManualClock) -> str:
    writer = ViewWriter(folder, clock)
    positions = writer.positions()
    why = writer.rebuilt_because
    assert bool(positions) == (why == "")
    writer.close()
    return why


def test_a_restart_goes_on_from_disk_for_six_days(tmp_path: Path) -> None:
    clock = ManualClock()
    writer = ViewWriter(tmp_path, clock)
    feed(writer)
    writer.tick(clock.epoch_ms() / 1000)
    writer.close()
    clock.advance(timedelta(days=5, hours=23))
    assert restart(tmp_path, clock) == ""
    clock.advance(timedelta(hours=2))
    assert "older" in restart(tmp_path, clock)


def test_the_threads_of_many_workers_read_at_once(tmp_path: Path) -> None:
    ViewWriter(tmp_path, ManualClock()).close()
    env = viewfile.open_for_reading(viewfile.current(tmp_path))
    transactions = [env.begin() for _ in range(64 * 5)]
    for transaction in transactions:
        transaction.abort()
    env.close()


def filled(folder: Path, clock: ManualClock) -> Path:
    writer = ViewWriter(folder, clock)
    feed(writer)
    writer.tick(clock.epoch_ms() / 1000)
    writer.close()
    return viewfile.current(folder)


def label(path: Path, **state: object) -> None:
    path.with_name(path.name + ".state").write_text(json.dumps({"format": FORMAT, **state}))


def test_a_file_that_must_not_be_trusted_is_rebuilt(tmp_path: Path) -> None:
    clock = ManualClock()
    label(filled(tmp_path, clock), format=99, state="closed")
    assert "format" in restart(tmp_path, clock)
    label(filled(tmp_path, clock), state="open", boot="another")
    assert "machine" in restart(tmp_path, clock)
    filled(tmp_path, clock).write_bytes(b"nonsense" * 4096)
    assert restart(tmp_path, clock) != ""
    filled(tmp_path, clock).unlink()
    assert "missing" in restart(tmp_path, clock)
    assert len(list(tmp_path.glob("view-*.lmdb"))) == 1


def test_a_file_that_may_be_read_is_read_until_the_new_one_holds_all_routes(tmp_path: Path) -> None:
    """Else every call would be refused as VIEW_STALE as long as the fold lasts."""
    clock = ManualClock()
    old = filled(tmp_path, clock)
    label(old, format=99, state="closed")
    writer = ViewWriter(tmp_path, clock)
    feed(writer)
    writer.tick(0.0)
    writer.close()
    assert viewfile.current(tmp_path) == old
    writer = ViewWriter(tmp_path, clock)  # goes on where the interrupted rebuild was
    assert (writer.rebuilt_because, writer.positions()) == ("", {("routes", 0): 1})
    writer.tick(clock.epoch_ms() / 1000)
    assert viewfile.current(tmp_path) != old
    assert list(tmp_path.glob("view-*.lmdb")) == [viewfile.current(tmp_path)]
    writer.close()


def test_a_file_that_may_be_torn_is_read_no_more(tmp_path: Path) -> None:
    clock = ManualClock()
    old = filled(tmp_path, clock)
    label(old, state="open", boot="another")
    writer = ViewWriter(tmp_path, clock)
    assert viewfile.current(tmp_path) != old
    writer.close()


def test_another_builds_format_is_not_opened(tmp_path: Path) -> None:
    old = filled(tmp_path, ManualClock())
    label(old, format=99, state="closed")
    with pytest.raises(viewfile.Unusable, match="format"):
        viewfile.open_for_reading(old)


def test_void_positions_begin_a_new_view_and_the_old_one_is_read_meanwhile(tmp_path: Path) -> None:
    clock = ManualClock()
    old = filled(tmp_path, clock)
    writer, asked = ViewWriter(tmp_path, clock), clock.epoch_ms() / 1000
    clock.advance(timedelta(seconds=1))
    writer.void({("routes", 0): "TOPIC_REPLACED"})
    assert writer.positions() == {}
    feed(writer)
    writer.tick(asked)  # a freshness that was asked for before the view was begun
    assert viewfile.current(tmp_path) == old
    writer.tick(clock.epoch_ms() / 1000)
    assert viewfile.current(tmp_path) != old
    writer.close()
