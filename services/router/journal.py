"""The journal of one worker: what it decided, on disk before the answer leaves.

One `write` per event to a segment file, so the event outlives the process at once and the machine
from the next background fsync on (50 ms). Segments close by size and age; the shipper deletes them
once Kafka has them. Refuses events when the folder is full: no call is connected unrecorded.

Invariant: under `_lock` an event's sequence, frame and write are one step. Sequences are gap-free
from 1; one that could not be written whole is cut off again and its number is used by the next.
"""

import contextlib
import fcntl
import os
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from services.router.segments import frame, lock_path, segment_path, total_bytes
from services.runtime.errors import ResourceExhausted
from services.runtime.telemetry import logger

_LOG: Final = logger(__name__)


@dataclass(frozen=True)
class Limits:
    """Bounds of a journal. `folder_bytes` is for all journals of the pod together."""

    segment_bytes: int = 16 * 1024 * 1024
    segment_seconds: float = 30.0
    folder_bytes: int = 2 * 1024 * 1024 * 1024  # 4 to 5 million decisions: a Kafka outage of hours
    sync_seconds: float = 0.05
    count_seconds: float = 1.0


class Journal:
    """Appends events. Safe to share between threads; one per process and `writer` name."""

    def __init__(self, folder: Path, writer: str, limits: Limits | None = None) -> None:
        self._limits, self._folder = limits or Limits(), folder
        folder.mkdir(parents=True, exist_ok=True)
        self.name = f"{writer}-{secrets.token_hex(4)}"  # the boot id keeps event ids unique
        self._owner = _lock(folder, self.name)
        self._lock = threading.Lock()  # guards all below
        self._sequence = 0
        self._number = 0
        self._used = 0  # octets of all journals in the folder, counted every second
        self._failed = False  # an fsync failed: what is on disk is not known any more
        self._left: list[int] = []  # closed segments that are not yet fsynced
        self._dirty = False
        self._open_segment()
        self._stopping = threading.Event()
        self._count()
        self._syncer = threading.Thread(target=self._sync_loop, name="journal", daemon=True)
        self._syncer.start()

    def append(
        self, kind: int, time_ms: int, key: bytes, value_of: Callable[[str, int], bytes]
    ) -> int:
        """Writes the event that `value_of(journal, sequence)` makes; returns its sequence.

        Raises:
            ResourceExhausted: JOURNAL_FULL: the event is not in the journal.
        """
        with self._lock:
            if self._failed or self._used >= self._limits.folder_bytes:
                raise _full()
            sequence = self._sequence + 1
            data = frame(sequence, time_ms, kind, key, value_of(self.name, sequence))
            self._write(data)
            # From here on the event will be shipped, whatever becomes of this process or the call.
            self._sequence = sequence
            self._size += len(data)
            self._used += len(data)
            self._dirty = True
            if self._size >= self._limits.segment_bytes:
                with contextlib.suppress(OSError):  # no room for a new one: this one goes on
                    self._roll()
        return sequence

    def _write(self, data: bytes) -> None:
        try:
            written = os.write(self._file, data)
        except OSError:
            written = 0
        if written == len(data):
            return
        try:
            os.ftruncate(self._file, self._size)
        except OSError:  # the torn frame stays as the tail of a closed segment, which readers skip
            with contextlib.suppress(OSError):
                self._roll()
        raise _full()

    @property
    def used_bytes(self) -> int:
        """Octets that wait in the folder."""
        return self._used

    @property
    def failed(self) -> bool:
        """Whether the disk failed; the process should be replaced."""
        return self._failed

    def _open_segment(self) -> None:
        self._number += 1
        path = segment_path(self._folder, self.name, self._number)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        self._file = os.open(path, flags, 0o600)
        self._size = 0
        self._opened = time.monotonic()

    def _roll(self) -> None:
        """Closes the segment and opens the next. If that fails, the old one goes on."""
        old = self._file
        self._open_segment()
        self._left.append(old)

    def _sync_loop(self) -> None:
        counted = time.monotonic()
        while not self._stopping.wait(self._limits.sync_seconds):
            try:
                self._sync()
                if time.monotonic() - counted >= self._limits.count_seconds:
                    counted = time.monotonic()
                    self._count()
            except OSError as error:
                self._failed = True
                _LOG.error("journal failed", errno=error.errno)
                return

    def _sync(self) -> None:
        with self._lock:
            aged = time.monotonic() - self._opened >= self._limits.segment_seconds
            if self._size and aged:  # so that an idle worker's segment can be deleted
                self._roll()
            if not self._dirty:
                return
            self._dirty = False
            left, self._left = self._left, []
            file = os.dup(self._file)  # fsync without the lock, while others append
        for closing in (*left, file):
            os.fsync(closing)
            os.close(closing)
        if left:
            _sync_folder(self._folder)

    def _count(self) -> None:
        total = total_bytes(self._folder.glob("*.seg"))
        with self._lock:
            self._used = total

    def close(self) -> None:
        """Puts everything on disk and lets go of the journal. No `append` may follow."""
        self._stopping.set()
        self._syncer.join()
        with self._lock:
            for file in (*self._left, self._file):
                os.fsync(file)
                os.close(file)
            self._left.clear()
            self._failed = True
        os.close(self._owner)  # the lock ends, so the shipper knows that nothing follows


def _lock(folder: Path, name: str) -> int:
    """Creates the journal's lock file, locked from the moment it has its name."""
    path = lock_path(folder, name)
    hidden = path.with_name(f".{path.name}")
    file = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    fcntl.flock(file, fcntl.LOCK_EX)
    os.rename(hidden, path)
    return file


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _full() -> ResourceExhausted:
    return ResourceExhausted(
        "JOURNAL_FULL", "the call cannot be recorded", retry_after=timedelta(seconds=1)
    )
