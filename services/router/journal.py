"""The journal of one worker: what it decided, on disk before the answer leaves.

One copy per event into the page cache, through a mapping of the segment file: like a `write`, the
event outlives the process at once and the machine from the next background fsync on (50 ms), but
no system call lets another thread take the interpreter. Segments close by size and age; the shipper
deletes them once Kafka has them. Refuses events when the folder or the disk is full: no call is
connected unrecorded.

Invariant: under `_lock` an event's sequence, frame and copy are one step, into octets that the file
system has set aside before (else a full disk would be a SIGBUS). Sequences are gap-free from 1.
"""

import contextlib
import fcntl
import mmap
import os
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from services.router.segments import HEADER, frame, lock_path, segment_path, total_bytes
from services.runtime.errors import ResourceExhausted
from services.runtime.telemetry import logger
from services.runtime.wholefile import sync_folder

_LOG: Final = logger(__name__)
_RESERVED: Final = 256 * 1024  # set aside at once: 1,400 decisions for each two system calls


@dataclass(frozen=True)
class Limits:
    """Bounds of a journal. `folder_bytes` is for all journals of the pod together."""

    segment_bytes: int = 16 * 1024 * 1024
    segment_seconds: float = 30.0
    folder_bytes: int = 2 * 1024 * 1024 * 1024  # 12 million decisions: a Kafka outage of hours
    sync_seconds: float = 0.05
    count_seconds: float = 1.0


class Journal:
    """Appends events. Safe to share between threads; one per process and `writer` name."""

    def __init__(self, folder: Path, writer: str, limits: Limits | None = None) -> None:
        self._limits, self._folder = limits or Limits(), folder
        folder.mkdir(parents=True, exist_ok=True)
        # The boot id keeps event ids unique, and with them the nonces of what is sealed here.
        self.name = f"{writer}-{secrets.token_hex(8)}"
        self._owner = _lock(folder, self.name)
        self._lock = threading.Lock()  # guards all below
        self._sequence = 0
        self._number = 0
        self._full_at = self._limits.segment_bytes
        # Octets that all journals in the folder may still take, counted every second; other live
        # ones with what they have set aside.
        self._room = self._limits.folder_bytes
        self._failed = False  # an fsync failed: what is on disk is not known any more
        self._left: list[int] = []  # closed segments that are not yet fsynced
        self._dirty = False
        self._map: mmap.mmap  # of the open segment, as far as octets are set aside
        self._size: int  # what of them is written
        self._reserved: int
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
            ValueError: it is longer than 1 MiB, and not in the journal either.
        """

        def made(place: bytes, _plain: bytes, _key: bytes) -> bytes:
            return value_of(self.name, int.from_bytes(place))

        return self.append_sealed(kind, time_ms, key, b"", made)

    def append_sealed(
        self, kind: int, time_ms: int, key: bytes, plain: bytes,
        seal: Callable[[bytes, bytes, bytes], bytes],
    ) -> int:  # fmt: skip
        """The same for `seal(sequence in 12 octets, plain, key)`."""
        with self._lock:
            if self._failed or self._room <= 0:
                raise _full()
            sequence = self._sequence + 1
            data = frame(sequence, time_ms, kind, key, seal(sequence.to_bytes(12), plain, key))
            start = self._size
            if not start:
                data = HEADER + data
            end = start + len(data)
            if end > self._reserved:
                self._reserve(end)
            # Killed in the middle of this copy, the worker leaves a torn frame, which readers skip.
            self._map[start:end] = data
            # From here on the event will be shipped, whatever becomes of this process or the call.
            self._sequence = sequence
            self._size = end
            self._room -= len(data)
            self._dirty = True
            if end >= self._full_at:
                with contextlib.suppress(OSError):  # no room for a new one: this one goes on
                    self._roll()
        return sequence

    def _reserve(self, end: int) -> None:
        """Sets octets aside up to `end` and some more, and maps them. If it cannot, the segment is
        what it was."""
        size = -(-end // _RESERVED) * _RESERVED
        try:
            os.posix_fallocate(self._file, self._reserved, size - self._reserved)
            mapped = mmap.mmap(self._file, size)
        except OSError:
            raise _full() from None
        self._map.close()
        self._map, self._reserved = mapped, size

    @property
    def used_bytes(self) -> int:
        """Octets that wait in the folder."""
        return self._limits.folder_bytes - self._room

    @property
    def failed(self) -> bool:
        """Whether the disk failed; the process should be replaced."""
        return self._failed

    def _open_segment(self) -> None:
        self._number += 1
        path = segment_path(self._folder, self.name, self._number)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._file = os.open(path, flags, 0o600)
        self._map = mmap.mmap(-1, mmap.PAGESIZE)  # nothing of the file yet
        self._size = self._reserved = 0
        self._opened = time.monotonic()

    def _roll(self) -> None:
        """Closes the segment and opens the next. If that fails, the old one goes on."""
        old = self._file, self._map, self._size
        self._open_segment()
        self._left.append(_cut(*old))

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
                with contextlib.suppress(OSError):
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
            sync_folder(self._folder)

    def _count(self) -> None:
        total = total_bytes(self._folder.glob("*.seg"))
        with self._lock:
            used = max(0, total - (self._reserved - self._size))
            self._room = self._limits.folder_bytes - used

    def close(self) -> None:
        """Puts everything on disk and lets go of the journal. No `append` may follow."""
        self._stopping.set()
        self._syncer.join()
        with self._lock:
            for file in (*self._left, _cut(self._file, self._map, self._size)):
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


def _cut(file: int, mapped: mmap.mmap, size: int) -> int:
    """Ends a segment at its last frame; its file. What stays set aside is read as nothing."""
    mapped.close()
    with contextlib.suppress(OSError):
        os.ftruncate(file, size)
    return file


def _full() -> ResourceExhausted:
    return ResourceExhausted(
        "JOURNAL_FULL", "the call cannot be recorded", retry_after=timedelta(seconds=1)
    )
