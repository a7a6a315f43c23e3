"""Keeps one log on a file system: the served tree in one folder, the private record beside it.

Refuses to judge content: what a tile must hold is the log's business. Invariant: a file appears
under its final name only whole and already on disk (temporary file, fsync, rename, fsync of the
folder), and only while this process holds the lock of both folders.
"""

import fcntl
import os
import shutil
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from services.audit.ports import CheckpointMoved, LogLocked, TileConflict
from services.audit.tiles import CHECKPOINT
from services.runtime.wholefile import sync_folder

# Concurrent fsyncs share journal commits and fill the disk's queue; beyond 4 nothing was gained.
SYNC_THREADS = 4
VKEY = "vkey"


class FolderReader:
    """Reads a served folder; takes no lock and never writes."""

    def __init__(self, folder: Path) -> None:
        self._root = os.fspath(folder)

    def read(self, path: str) -> bytes | None:
        return _read(f"{self._root}/{path}")

    def read_checkpoint(self) -> bytes | None:
        return self.read(CHECKPOINT)


class FolderStore:
    """TileStore and StateStore of one log. `folder` is served; `private` must never be.

    Both lie on one file system, or renames between them would not be atomic.
    """

    def __init__(self, folder: Path, private: Path) -> None:
        """Takes the lock of both folders, making them if they are missing.

        Raises:
            LogLocked: another store has one of them open.
        """
        self._folder = FolderReader(folder)
        self._root = os.fspath(folder)
        self._private = os.fspath(private)
        self._locks: list[int] = []
        self._pool = ThreadPoolExecutor(SYNC_THREADS, thread_name_prefix="tile-fsync")
        self._known_folders: set[str] = set()
        try:
            for path in (folder, private):
                missing = [at for at in (path, *path.parents) if not at.exists()]
                path.mkdir(parents=True, exist_ok=True, mode=0o700 if path == private else 0o755)
                for made in missing:
                    sync_folder(os.fspath(made.parent))
            # Two copies of the private folder would each have a lock file of their own, so the
            # served folder, the thing that must not fork, is locked as well.
            self._lock(os.fspath(private / "lock"), os.O_RDWR | os.O_CREAT)
            self._lock(self._root, os.O_RDONLY | os.O_DIRECTORY)
            self._staging = f"{self._private}/staging"
            # What a killed predecessor left here never got a name anyone reads.
            shutil.rmtree(self._staging, ignore_errors=True)
            os.makedirs(self._staging, exist_ok=True)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Gives the locks back. Everything written is durable already."""
        self._pool.shutdown()
        while self._locks:
            os.close(self._locks.pop())

    def read(self, path: str) -> bytes | None:
        return self._folder.read(path)

    def read_checkpoint(self) -> bytes | None:
        return self._folder.read_checkpoint()

    def read_state(self) -> bytes | None:
        return self.read_private("tree-state")

    def write(self, files: Mapping[str, bytes]) -> None:
        targets = {f"{self._root}/{path}": content for path, content in files.items()}
        fresh: dict[str, bytes] = {}
        for target, content in targets.items():
            found = _read(target)
            if found is None:
                fresh[target] = content
            elif found != content:
                raise TileConflict(f"{target.removeprefix(self._root + '/')} has other bytes")
        staged = self._stage(list(fresh.values()))
        folders = {os.path.dirname(target) for target in targets}
        parents = self._make_folders(folders)
        for temporary, target in zip(staged, fresh, strict=True):
            os.rename(temporary, target)
        # A file found in place may have been renamed by a process killed before this line, so
        # its folder is synced too.
        list(self._pool.map(sync_folder, folders | parents))
        self._known_folders |= folders | parents

    def replace_checkpoint(self, expected: bytes | None, new: bytes) -> None:
        if self.read_checkpoint() != expected:
            raise CheckpointMoved("another checkpoint than the expected one is published")
        self._replace(f"{self._root}/{CHECKPOINT}", new)

    def replace_state(self, new: bytes) -> None:
        self._replace(f"{self._private}/tree-state", new)

    def drop_partials(self, folders: Iterable[str]) -> None:
        for folder in folders:
            shutil.rmtree(f"{self._root}/{folder}", ignore_errors=True)
            self._known_folders.discard(f"{self._root}/{folder}")

    def read_private(self, name: str) -> bytes | None:
        return _read(f"{self._private}/{name}")

    def write_private(self, name: str, content: bytes) -> None:
        """Makes a private file (mode 600) in one durable step."""
        self._replace(f"{self._private}/{name}", content, 0o600)

    def write_served(self, name: str, content: bytes) -> None:
        """Makes a file beside the checkpoint, such as the vkey, in one durable step."""
        self._replace(f"{self._root}/{name}", content)

    def remove_served(self, name: str) -> None:
        """Removes a file beside the checkpoint; durable on return."""
        os.unlink(f"{self._root}/{name}")
        sync_folder(self._root)

    def _replace(self, target: str, content: bytes, mode: int = 0o644) -> None:
        (temporary,) = self._stage([content], mode)
        os.rename(temporary, target)
        sync_folder(os.path.dirname(target))

    def _stage(self, contents: list[bytes], mode: int = 0o644) -> list[str]:
        """Temporary files with `contents`, on disk."""
        if not self._locks:
            raise ValueError("the store is closed")
        names: list[str] = []
        descriptors: list[int] = []
        try:
            for number, content in enumerate(contents):
                names.append(f"{self._staging}/{number}")
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
                descriptors.append(os.open(names[-1], flags, mode))
                _write_all(descriptors[-1], content)
            if len(descriptors) == 1:
                os.fsync(descriptors[0])
            else:
                list(self._pool.map(os.fsync, descriptors))
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return names

    def _make_folders(self, folders: set[str]) -> set[str]:
        """Makes missing folders; gives the parents whose new children must be synced."""
        parents: set[str] = set()
        for folder in folders - self._known_folders:
            os.makedirs(folder, exist_ok=True)
            # An ancestor may stem from a process killed before its sync; those this process has
            # synced once are in _known_folders.
            while folder != self._root and folder not in self._known_folders:
                folder = os.path.dirname(folder)
                parents.add(folder)
        return parents

    def _lock(self, path: str, flags: int) -> None:
        descriptor = os.open(path, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise LogLocked(f"another sequencer holds {os.path.basename(path)}") from None
        self._locks.append(descriptor)


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _write_all(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
