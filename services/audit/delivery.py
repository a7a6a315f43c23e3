"""Delivers a bundle to where the regulator takes it: a port like SFTP, and a folder behind it.

Refuses to replace a bundle that was delivered. Invariant: at the receiver a bundle appears under
its name only whole; whatever is interrupted is begun again and ends the same.
"""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Protocol

from services.audit.bundle import MANIFEST
from services.runtime.wholefile import replace_file, sync_folder

# Seconds between tries: a receiver that restarts is met within a minute, one that is down for the
# night by the next run.
BACKOFF_SECONDS: Final = (1.0, 5.0, 25.0, 60.0)


class DeliveryConflict(Exception):
    """The receiver has another bundle of this name. A person must decide which one counts."""


class Receiver(Protocol):
    """Where files are put, as over SFTP. Every method may raise OSError: try again later; it may
    have happened all the same."""

    def read(self, path: str) -> bytes | None:
        """The file, or None."""
        ...

    def put(self, path: str, content: Path) -> None:
        """Makes or replaces the file, folders included."""
        ...

    def rename(self, path: str, to: str) -> None:
        """Renames a folder."""
        ...


class FolderReceiver:
    """A folder, perhaps of another machine's file system."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, path: str) -> bytes | None:
        try:
            return (self._root / path).read_bytes()
        except FileNotFoundError:
            return None

    def put(self, path: str, content: Path) -> None:
        target = self._root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        replace_file(target, content.read_bytes())

    def rename(self, path: str, to: str) -> None:
        shutil.move(self._root / path, self._root / to)
        sync_folder(self._root)


def deliver(
    receiver: Receiver,
    bundle: Path,
    wait: Callable[[float], object],
    backoff: Sequence[float] = BACKOFF_SECONDS,
) -> None:
    """Delivers once; tries again as `backoff` says.

    Raises:
        DeliveryConflict: another bundle of this name is there.
        OSError: the last try failed, too.
    """
    for pause in (*backoff, None):
        try:
            _try(receiver, bundle)
        except OSError:
            if pause is None:
                raise
            wait(pause)
        else:
            return


def _try(receiver: Receiver, bundle: Path) -> None:
    manifest = (bundle / MANIFEST).read_bytes()
    there = receiver.read(f"{bundle.name}/{MANIFEST}")
    if there is not None:
        if there != manifest:
            raise DeliveryConflict(f"another {bundle.name} was delivered")
        return  # also where the rename happened and only its answer was lost
    part = f"{bundle.name}.part"
    for path in sorted(bundle.iterdir()):
        receiver.put(f"{part}/{path.name}", path)
    receiver.rename(part, bundle.name)
