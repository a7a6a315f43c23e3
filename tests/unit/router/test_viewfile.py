"""Which file of the view is trusted, and which is folded anew."""

import json
from datetime import timedelta
from pathlib import Path

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


def test_a_file_that_must_not_be_trusted_is_rebuilt(tmp_path: Path) -> None:
    clock = ManualClock()

    def fill() -> Path:
        writer = ViewWriter(tmp_path, clock)
        feed(writer)
        writer.close()
        return viewfile.current(tmp_path)

    state = fill().with_name(viewfile.current(tmp_path).name + ".state")
    state.write_text(json.dumps({"format": 99, "state": "closed"}))
    assert "format" in restart(tmp_path, clock)
    state = fill().with_name(viewfile.current(tmp_path).name + ".state")
    state.write_text(json.dumps({"format": FORMAT, "state": "open", "boot": "another"}))
    assert "machine" in restart(tmp_path, clock)
    fill().write_bytes(b"nonsense" * 4096)
    assert restart(tmp_path, clock) != ""
    fill().unlink()
    assert "missing" in restart(tmp_path, clock)
    assert len(list(tmp_path.glob("view-*.lmdb"))) == 1
