"""`up` and `down`: whatever way it ends, nothing of it is left running."""

import json
import os
import signal
from pathlib import Path

import pytest

from deploy.local.__main__ import main
from deploy.local.clients import Pools
from tests.e2e.local_command import Up, descendants, local, up

pytestmark = pytest.mark.timeout(300)  # starts many processes; for a loaded machine


def test_down_from_another_process_stops_it_and_its_data_is_there_at_the_next_up(
    tmp_path: Path,
) -> None:
    with up(tmp_path / "data", "--workers", "2") as running:
        assert len([c for c in running.pids.values() if "services.router.worker" in c]) >= 2
        with Pools(running.addresses["allocator"], "citytaxi") as pools:
            pools.create("rides")
            pools.register("70012345678", "rides")
        second = local("up", "--data", str(tmp_path / "data"))
        assert (second.returncode, second.stdout) == (1, "")
        assert "other brokers run" in second.stderr
        down = local("down", "--data", str(tmp_path / "data"))
        assert down.returncode == 0, down.stderr
        assert running.left() == {}
        status, out, _ = running.ended()
        assert status == 0
        assert "ctrl-C stops everything" in out
    assert "no cluster runs" in local("down", "--data", str(tmp_path / "data")).stdout
    with up(tmp_path / "data") as again, Pools(again.addresses["allocator"], "citytaxi") as pools:
        assert pools.statistics("rides").total == 10_000
        # Ctrl-C reaches the whole foreground group; the children have sessions of their own.
        os.killpg(again.process.pid, signal.SIGINT)
        assert again.ended()[0] == 0


def test_a_killed_child_ends_it_with_a_message_that_names_the_child(tmp_path: Path) -> None:
    with up(tmp_path / "data") as running:
        os.kill(child(running, "services.binding"), signal.SIGKILL)
        status, _, err = running.ended()
    log = tmp_path / "data" / "logs" / "binding.log"
    assert status == 1
    assert f"binding was killed by SIGKILL; the end of {log}:" in err
    assert "owns the cell" in log.read_text()
    assert err.rstrip().endswith(log.read_text().rstrip()[-200:]), "the end of its log is shown"


def test_down_harms_nobody_where_no_cluster_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    addresses = tmp_path / "addresses.json"
    addresses.write_text(json.dumps({"pid": os.getpid()}))  # the number is somebody else's by now
    for left_behind in (False, True):
        if left_behind:
            (tmp_path / "lock").touch()
        assert main(["down", "--data", str(tmp_path)]) == 0
        assert "no cluster runs" in capsys.readouterr().out


def child(running: Up, module: str) -> int:
    """The pid of the child that runs the module, not of what that started in turn."""
    return min(pid for pid, c in descendants(running.process.pid).items() if module in c)
