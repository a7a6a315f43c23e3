"""Both brokers as one thing to start and stop: Kafka and Valkey under one data folder.

Invariant: one owner a folder at a time, kept by a lock on a file in it. Two Valkeys would
otherwise write to one append-only file, each over what the other wrote.
"""

import fcntl
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from deploy.local.kafka import Kafka
from deploy.local.process import Child
from deploy.local.valkey import Valkey


class FolderInUse(Exception):
    """Other brokers run on this data folder: stop them, or choose another folder."""


def in_use(folder: Path) -> bool:
    """Whether brokers run on the folder: they hold its lock until the last process has ended."""
    try:
        with (folder / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


class Brokers:
    """A context in which both brokers run; their data and logs are in `folder`.

    Started again on the same folder they have what they had: Kafka always, Valkey if `appendonly`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        kafka_port: int | None = None,
        valkey_port: int | None = None,
        appendonly: bool = True,
        valkey_env: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.lock = folder / "lock"
        self._held = ExitStack()
        self.kafka = Kafka(folder / "kafka", port=kafka_port)
        self.valkey = Valkey(
            folder / "valkey", port=valkey_port, appendonly=appendonly, env=valkey_env
        )

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def children(self) -> tuple[Child, ...]:
        return (self.valkey.child, self.kafka.child)

    def start(self) -> Self:
        """Starts both and returns once both answer; if one fails, neither is left running.

        Raises:
            FolderInUse: another process has started brokers on the folder.
            ChildDied, ChildNotReady: as each broker's `start` does.
        """
        self.hold()
        try:
            self.valkey.start()
            self.kafka.start()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stops both; harmless if they are not running."""
        try:
            self.kafka.stop()
        finally:
            self.valkey.stop()
            self._held.close()

    def hold(self) -> None:
        """Makes the folder ours until `stop`; `start` does it too. Raises FolderInUse."""
        self._held.close()
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = self._held.enter_context(self.lock.open("w"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # goes with us, however we end
        except BlockingIOError:
            self._held.close()
            raise FolderInUse(f"other brokers run on {self.folder}") from None

    def environment(self) -> dict[str, str]:
        """The addresses as the environment variables by which tests and services find them."""
        return {"KAFKA_BOOTSTRAP": self.kafka.bootstrap, "REDIS_URL": self.valkey.url}
