"""`replay` and `demo`, as a person runs them on a fresh clone."""

import re
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.e2e.local_command import local

pytestmark = pytest.mark.timeout(300)  # starts many processes; for a loaded machine

BEGIN = datetime(2024, 1, 1, 8)


def test_replay_places_every_order_and_verifies_the_log(tmp_path: Path) -> None:
    trips = tmp_path / "trips.csv"
    rows = [
        f"{BEGIN + timedelta(seconds=20 * i)},{BEGIN + timedelta(seconds=20 * i, minutes=7)}"
        for i in range(60)
    ]
    text = ["tpep_pickup_datetime,tpep_dropoff_datetime", *rows, "no,trip"]
    trips.write_text("\n".join(text) + "\n")
    done = local("replay", str(trips), "--data", str(tmp_path / "replay"), "--speed", "600")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "60 trips; 1 rows are none" in done.stdout
    assert re.search(r"audit: YES: \d+ entries", done.stdout)
    assert re.search(r"released +│ +\d+", done.stdout), "late calls are refused"
    assert re.search(r"connected +│ +\d+", done.stdout)
    assert done.stdout.count("release answered → every router refuses") == 2
    assert "on an idle cluster, one order at a time" in done.stdout


def test_replay_refuses_a_file_without_trips(tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    done = local("replay", str(tmp_path / "other.csv"), "--data", str(tmp_path / "replay"))
    assert (done.returncode, done.stdout) == (2, "")
    assert "other.csv" in done.stderr


def test_demo_tells_the_main_job_and_ends_with_the_verdict(tmp_path: Path) -> None:
    done = local("demo", "--data", str(tmp_path / "demo"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"audit: YES: \d+ entries", done.stdout)
    for told in ("the rider", "NOT_BOUND", "RELEASED", "BindingCreated", "CallRecorded"):
        assert told in done.stdout
