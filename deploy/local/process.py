"""Child processes that cannot outlive us: start, stop, kill, watch, and the end of their log.

Every child gets a session of its own (so ctrl-C reaches only us and a stop reaches its whole
group) and a leash (`leash.py`), so that it dies even if we are killed with -9. The leash holds
for the child itself: a child that starts workers of its own must see to them.

Invariant: children are forked only on the one spawner thread, which lives as long as the
process; the kernel would kill a child when the thread that forked it ends.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Self

from deploy.local.waiting import Late, eventually

_LEASH = Path(__file__).with_name("leash.py")
_SPAWNER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spawner")


class ChildDied(Exception):
    """A child ended that should be running; the message names it and shows the end of its log."""


class ChildNotReady(Exception):
    """A child runs but was not ready by its deadline; the message shows the end of its log."""


class Child:
    """One program under supervision. It can be started again after it has ended."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        """`env` is added to our own environment; stdout and stderr are appended to `log`."""
        self.name = name
        self.log = log
        self._argv = [str(arg) for arg in argv]
        self._env = dict(env or {})
        self._cwd = cwd
        self._process: subprocess.Popen[bytes] | None = None
        self._gone = False

    def __repr__(self) -> str:
        return f"Child({self.name!r}, {f'pid {self.pid}' if self.running else 'not running'})"

    @property
    def pid(self) -> int:
        """The process id of the last start.

        Raises:
            ChildDied: it was never started.
        """
        if self._process is None:
            raise ChildDied(f"{self.name} was never started")
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Starts the program and returns at once; starting a running child does nothing."""
        if not self.running:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            self._process = _SPAWNER.submit(self._spawn).result()
            self._gone = False
        return self

    def _spawn(self) -> subprocess.Popen[bytes]:
        leash = [sys.executable, "-I", "-S", str(_LEASH), str(os.getpid())]
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [*leash, *self._argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self._env},
                cwd=self._cwd,
                start_new_session=True,
            )

    def stop(self, grace_seconds: float = 10.0) -> None:
        """Asks the group to end (SIGTERM) and kills what is left after the grace."""
        if self._process is not None and self.running:
            self.signal(signal.SIGTERM)
            self.signal(signal.SIGCONT)  # a paused child would never see the first one
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(grace_seconds)
        self.kill()

    def kill(self) -> None:
        """Kills the whole group with -9 and reaps the child; harmless if it has ended."""
        if self._process is not None:
            self.signal(signal.SIGKILL)
            self._process.wait()
            self._gone = True

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the child's group, SIGSTOP and SIGCONT included."""
        if self._gone:  # the number of its group may be somebody else's by now
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def tail(self, lines: int = 20) -> str:
        """The last lines of the log, or a word that there is none."""
        if not self.log.exists():
            return "(no log)"
        with self.log.open(encoding="utf-8", errors="replace") as log:
            return "".join(deque(log, lines)).rstrip() or "(the log is empty)"

    def check(self) -> None:
        """Raises ChildDied, with the exit status and the end of the log, unless it runs."""
        if self._process is None or self.running:
            return
        status = self._process.returncode
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"exited {status}"
        raise ChildDied(f"{self.name} {how}; the end of {self.log}:\n{self.tail()}")

    def await_ready(self, ready: Callable[[], object], deadline_seconds: float) -> None:
        """Waits until `ready()` is true.

        Raises:
            ChildDied: the child ended first.
            ChildNotReady: the deadline passed; the child still runs, stopping it is the caller's.
        """

        def ready_or_dead() -> bool:
            self.check()
            return bool(ready())

        try:
            eventually(ready_or_dead, deadline_seconds, what=self.name)
        except Late as late:
            raise ChildNotReady(f"{late}; the end of {self.log}:\n{self.tail()}") from late


def watch(children: Iterable[Child], until: Event, every_seconds: float = 0.2) -> None:
    """Blocks until the event is set.

    Raises:
        ChildDied: one of the children ended meanwhile.
    """
    watched = list(children)
    while not until.wait(every_seconds):
        for child in watched:
            child.check()
