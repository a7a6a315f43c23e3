"""Children: what their end looks like, and that they never outlive us."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from threading import Event, Thread

import pytest

from deploy.local.places import ROOT
from deploy.local.process import Child, ChildDied, ChildNotReady, watch
from deploy.local.waiting import eventually

SLEEPER = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "child.log"


def _up(child: Child) -> bool:
    return child.running and "up" in child.tail()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def test_a_child_starts_logs_stops_and_starts_again(log: Path) -> None:
    child = Child("sleeper", SLEEPER, log=log).start()
    child.await_ready(lambda: child.tail() == "up", 10)
    child.check()
    child.stop()
    assert not child.running
    child.start()
    child.await_ready(lambda: child.tail() == "up\nup", 10)
    child.stop()


def test_starting_twice_starts_once(log: Path) -> None:
    child = Child("sleeper", SLEEPER, log=log).start()
    first = child.pid
    assert child.start().pid == first
    child.kill()


def test_the_environment_is_added_to_ours(log: Path) -> None:
    code = "import os; print(os.environ['EXTRA'], 'PATH' in os.environ)"
    child = Child("env", [sys.executable, "-c", code], log=log, env={"EXTRA": "here"}).start()
    eventually(lambda: not child.running)
    assert child.tail() == "here True"


def test_a_dead_child_is_named_with_the_end_of_its_log(log: Path) -> None:
    code = "import sys; [print('line', n) for n in range(50)]; sys.exit(3)"
    child = Child("broken", [sys.executable, "-c", code], log=log).start()
    with pytest.raises(ChildDied, match=r"broken exited 3") as caught:
        child.await_ready(lambda: False, 10)
    assert "line 49" in str(caught.value)
    assert "line 29\n" not in str(caught.value)


def test_a_killed_child_is_reported_by_its_signal(log: Path) -> None:
    child = Child("victim", SLEEPER, log=log).start()
    child.kill()
    with pytest.raises(ChildDied, match="victim was killed by SIGKILL"):
        child.check()


def test_a_child_that_never_gets_ready_is_reported(log: Path) -> None:
    child = Child("slow", SLEEPER, log=log).start()
    with pytest.raises(ChildNotReady, match="slow"):
        child.await_ready(lambda: False, 0.05)
    assert child.running
    child.kill()


def test_stop_kills_a_child_that_ignores_it(log: Path) -> None:
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print('up', flush=True); time.sleep(60)"
    )
    child = Child("stubborn", [sys.executable, "-c", code], log=log).start()
    child.await_ready(lambda: _up(child), 10)
    child.stop(grace_seconds=0.1)
    with pytest.raises(ChildDied, match="SIGKILL"):
        child.check()


def test_stop_ends_a_paused_child(log: Path) -> None:
    child = Child("paused", SLEEPER, log=log).start()
    child.await_ready(lambda: _up(child), 10)
    child.signal(signal.SIGSTOP)
    child.stop()
    with pytest.raises(ChildDied, match="SIGTERM"):
        child.check()


def test_stop_ends_the_whole_group(log: Path) -> None:
    code = (
        "import subprocess, sys, time;"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
        "print('up', p.pid, flush=True); time.sleep(60)"
    )
    child = Child("family", [sys.executable, "-c", code], log=log).start()
    child.await_ready(lambda: _up(child), 10)
    grandchild = int(child.tail().split()[1])
    child.stop()
    eventually(lambda: not _alive(grandchild))


def test_watch_names_the_child_that_died(log: Path) -> None:
    well = Child("well", SLEEPER, log=log).start()
    ill = Child("ill", [sys.executable, "-c", "raise SystemExit(7)"], log=log.with_name("ill"))
    with pytest.raises(ChildDied, match="ill exited 7"):
        watch([well, ill.start()], Event(), every_seconds=0.01)
    well.kill()


def test_watch_ends_when_asked(log: Path) -> None:
    well = Child("well", SLEEPER, log=log).start()
    asked = Event()
    asked.set()
    watch([well], asked)
    well.kill()


def test_what_was_never_started_can_be_stopped_but_has_no_pid(log: Path) -> None:
    child = Child("idle", SLEEPER, log=log)
    child.stop()
    child.check()
    assert child.tail() == "(no log)"
    with pytest.raises(ChildDied, match="never started"):
        _ = child.pid


def test_a_child_survives_the_thread_that_started_it(log: Path) -> None:
    child = Child("sleeper", SLEEPER, log=log)
    thread = Thread(target=child.start)
    thread.start()
    thread.join()
    child.await_ready(lambda: _up(child), 10)
    child.check()
    child.stop()


def test_children_die_with_a_parent_that_is_killed(log: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from deploy.local.process import Child;"
        f"child = Child('orphan', {SLEEPER!r}, log=Path({str(log)!r})).start();"
        "print(child.pid, flush=True); time.sleep(60)"
    )
    here = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=here) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        eventually(lambda: log.exists() and "up" in log.read_text())
        assert _alive(pid)
        parent.kill()
    eventually(lambda: not _alive(pid), 5, what="the orphan's end")
