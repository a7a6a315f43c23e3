"""A PostgreSQL server of Debian's for one test module, on a socket in a folder of its own."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deploy.local.waiting import eventually
from tests.interop.toolchain import postgres


class Server:
    """A running server. `stop` and `start` again keep its data."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs = programs
        self._folder = folder
        # The server refuses to run as root: as root it runs as the user that the package made.
        self._user: dict[str, Any] = {"user": "postgres"} if os.getuid() == 0 else {}
        if self._user:
            shutil.chown(folder, "postgres")
        self._run("initdb", "-D", str(folder / "data"), "-U", "test", "-A", "trust", "--no-sync")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        options = ("-c", "listen_addresses=", "-c", f"unix_socket_directories={self._folder}")
        command = [str(self._programs / "postgres"), "-D", str(self._folder / "data"), *options]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stderr=log, cwd="/", **self._user)
        eventually(self._ready, 30, what="PostgreSQL answers")

    def stop(self) -> None:
        """As a power cut to its clients: connections break."""
        if self._process is not None:
            self._run("pg_ctl", "stop", "-D", str(self._folder / "data"), "-m", "immediate")
            self._process.wait(30)
            self._process = None

    def url(self, database: str) -> str:
        """A new, empty database."""
        self._run("createdb", "-h", str(self._folder), "-U", "test", database)
        return f"postgresql+psycopg://test@/{database}?host={self._folder}"

    def _ready(self) -> bool:
        command = [str(self._programs / "pg_isready"), "-q", "-h", str(self._folder)]
        return subprocess.run(command, check=False).returncode == 0

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, cwd="/", **self._user
        )
        assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def running() -> Iterator[Server]:
    programs = postgres()
    folder = Path(tempfile.mkdtemp(prefix="axbridge-pg-"))  # not below root's own folder
    try:
        server = Server(programs, folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)
