"""Runs `python -m deploy.local …` as a person does, and sees what it leaves behind."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.local.places import ROOT
from deploy.local.waiting import eventually
from tests.scene import PATIENCE

ENV = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "gen"))),
    "COLUMNS": "200",  # no line of a table is broken
}


def local(*args: str) -> "subprocess.CompletedProcess[str]":
    """The command's outcome."""
    return subprocess.run(
        [sys.executable, "-m", "deploy.local", *args],
        cwd=ROOT, env=ENV, capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip


class Up:
    """A running `up`."""

    def __init__(self, data: Path, process: "subprocess.Popen[str]") -> None:
        self.data = data
        self.process = process
        self.addresses: dict[str, str] = {}
        self.pids: dict[int, str] = {}  # of everything it started, with the command line

    def await_ready(self) -> None:
        path = self.data / "addresses.json"

        def ready() -> bool:
            assert self.process.poll() is None, self.process.communicate()
            return path.exists()

        eventually(ready, PATIENCE, what="up")
        self.addresses = json.loads(path.read_text())
        self.pids = descendants(self.process.pid)

    def ended(self) -> tuple[int, str, str]:
        """Status and output, once it has ended and nothing that it started is left."""
        out, err = self.process.communicate(timeout=PATIENCE)
        eventually(lambda: not self.left(), PATIENCE, what=f"the end of {self.pids}")
        return self.process.returncode, out, err

    def left(self) -> dict[int, str]:
        """What it started and still runs, with anything that joined its groups since."""
        groups = set(self.pids)
        return {
            pid: command
            for pid, (_, group, command) in processes().items()
            if group in groups or self.pids.get(pid) == command
        }


@contextmanager
def up(data: Path, *options: str) -> Iterator[Up]:
    """`up` on the folder, ready; killed at the end of the block if it still runs."""
    command = [sys.executable, "-m", "deploy.local", "up", "--data", str(data), *options]
    process = subprocess.Popen(
        command, cwd=ROOT, env=ENV, text=True, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    running = Up(data, process)
    try:
        running.await_ready()
        yield running
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE)


def processes() -> dict[int, tuple[int, int, str]]:
    """Every process that runs: its parent, its group and its command line. Zombies are gone."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                state, parent, group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:  # it ended meanwhile
                continue
            if state != "Z":
                found[int(entry.name)] = int(parent), int(group), command
    return found


def descendants(root: int) -> dict[int, str]:
    """The process's children, their children and so on."""
    every = processes()
    found: dict[int, str] = {}
    fresh = {root}
    while fresh:
        fresh = {pid for pid, (parent, _, _) in every.items() if parent in fresh}
        found |= {pid: every[pid][2] for pid in fresh}
    return found
