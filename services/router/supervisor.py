"""Keeps the writer and the workers of one pod running, and shows the pod's metrics and health.

The health endpoint lives here and not in the writer, so that a writer in trouble never takes
workers down that can still route. Refuses to serve calls itself.

Invariant: a child that ends without being told to is counted and started again, later and later
(0.1 s doubling to 5 s) while it keeps failing; nothing is left running when the supervisor ends.
"""

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import Final, Literal

from prometheus_client.multiprocess import MultiProcessCollector

from services.router.segments import list_segments, total_bytes
from services.router.settings import RouterSettings
from services.router.store import ViewReader
from services.runtime.keyring import FileKeyRing
from services.runtime.metrics import Metrics, Name
from services.runtime.sealing import Tagger
from services.runtime.settings import split_address
from services.runtime.telemetry import HealthEndpoint, logger

_LOG: Final = logger(__name__)
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0
_STEADY_SECONDS: Final = 10.0  # a child that lived so long starts again without a pause


@dataclass
class _Child:
    kind: Literal["writer", "worker"]
    number: int
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    pause: float = _FIRST_PAUSE
    due: float = field(default_factory=time.monotonic)


class Supervisor:
    """`run` keeps everything up until `stop` is set."""

    def __init__(self, settings: RouterSettings) -> None:
        self._settings = settings
        self._port = _reserve(settings.listen)  # held, so that no other program takes it
        self._http_port = _reserve(settings.http_listen) if settings.http_listen else None
        # The children's counts, in files that they map; the root file system may be read-only.
        self._metrics_dir = settings.data_dir / "metrics"
        shutil.rmtree(self._metrics_dir, ignore_errors=True)
        self._metrics_dir.mkdir(parents=True)
        self._metrics = Metrics("router")
        MultiProcessCollector(self._metrics.registry, str(self._metrics_dir))  # type: ignore[no-untyped-call]
        self._view = ViewReader(settings.view_dir, Tagger(FileKeyRing(settings.keyring_dir)))
        self._children = [_Child("writer", 0)]
        self._children += [_Child("worker", number) for number in range(settings.workers)]
        self._health = HealthEndpoint(settings.health_listen, self._metrics.registry, self._ready)

    @property
    def address(self) -> str:
        """Where the workers serve."""
        return _shown(self._settings.listen, self._port)

    def run(self, stop: threading.Event) -> None:
        """Starts and keeps the children; stops them before it returns."""
        self._health.start()
        _LOG.info("supervising", address=self.address, health_port=self._health.port)
        try:
            while not stop.wait(0.1):
                for child in self._children:
                    self._tend(child)
                self._measure()
        finally:
            self._stop_children()
            self._health.stop()
            self._view.close()
            self._port.close()
            if self._http_port is not None:
                self._http_port.close()

    def _tend(self, child: _Child) -> None:
        now = time.monotonic()
        if child.process is not None:
            if child.process.poll() is None:
                return
            _LOG.error("child ended", child=child.kind, number=child.number,
                       status=child.process.returncode)  # fmt: skip
            self._metrics.counter(Name.CHILD_RESTARTS, child=child.kind).inc()
            self._drop_gauges(child.process.pid)
            if child.process.stdin is not None:
                child.process.stdin.close()
            steady = now - child.started >= _STEADY_SECONDS
            child.pause = _FIRST_PAUSE if steady else min(child.pause * 2, _LONGEST_PAUSE)
            child.due, child.process = now + child.pause, None
        if child.due <= now:
            child.started, child.process = now, self._start(child)

    def _start(self, child: _Child) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ,
            "ROUTER_LISTEN": self.address,
            "ROUTER_WORKER": str(child.number),
            "ROUTER_SUPERVISED": "1",
            "PROMETHEUS_MULTIPROC_DIR": str(self._metrics_dir),
        }
        if self._settings.http_listen and self._http_port is not None:
            environment["ROUTER_HTTP_LISTEN"] = _shown(self._settings.http_listen, self._http_port)
        command = [sys.executable, "-m", f"services.router.{child.kind}"]
        # A session of its own: ctrl-C reaches the supervisor alone, which stops them in order.
        return subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, start_new_session=True
        )

    def _stop_children(self) -> None:
        """Workers first, so that the writer ships what they wrote last."""
        for kind in ("worker", "writer"):
            running = [c.process for c in self._children if c.kind == kind and c.process]
            for process in running:
                process.terminate()
            until = time.monotonic() + self._settings.drain_seconds + self._settings.grace_seconds
            for process in running:
                try:
                    process.wait(max(0.1, until + 10 - time.monotonic()))
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                if process.stdin is not None:
                    process.stdin.close()

    def _measure(self) -> None:
        self._view.refresh()
        segments = list_segments(self._settings.journal_dir)
        waiting = total_bytes(segment.path for segment in segments)
        self._metrics.gauge(Name.JOURNAL_WAITING).set(waiting)
        self._metrics.gauge(Name.VIEW_AGE).set(self._age())

    def _ready(self) -> bool:
        """A worker runs and the view held all routes not too long ago."""
        workers = any(c.process for c in self._children if c.kind == "worker")
        return workers and self._age() <= self._settings.max_view_age_seconds

    def _age(self) -> float:
        return max(0.0, time.time() - self._view.fresh_ms() / 1000)

    def _drop_gauges(self, pid: int) -> None:
        """A dead process has no state; its counts stay."""
        for path in self._metrics_dir.glob(f"gauge_*_{pid}.db"):
            path.unlink(missing_ok=True)


def _shown(listen: str, held: socket.socket) -> str:
    """The address with the port that was reserved for it."""
    host, _ = split_address(listen)
    return f"{f'[{host}]' if ':' in host else host}:{held.getsockname()[1]}"


def _reserve(listen: str) -> socket.socket:
    """Binds the port without listening: workers share it, and port 0 becomes a real one."""
    host, port = split_address(listen)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    held = socket.socket(family, socket.SOCK_STREAM)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    held.bind((host, port))
    return held
