"""Remembers in LMDB which event id is which leaf, so that an event becomes a leaf once.

The index is derived from the log and holds nothing of its own. New ids wait in memory and go to
disk in batches; what a crash takes is added again from the entries, as `size` says where to start.
Invariant: ids and `size` are written in one transaction, so no id beyond `size` is on disk and no
id below it is missing.
"""

import os
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import lmdb

# Address space only; the file grows with what is in it (about 100 bytes an id: 2.5 billion ids).
MAP_SIZE = 1 << 38
# Longer ids, and those that look like a digest, are stored by their SHA-256 (LMDB: 511 bytes).
LONGEST_PLAIN = 64
# One durable transaction per this many ids: 0.3 s of re-reading after a crash, some MB of memory.
FLUSH_EVERY = 50_000


class IdIndex:
    """EventIds on disk. For the sequencer's thread only."""

    def __init__(self, folder: Path, flush_every: int = FLUSH_EVERY) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._env = lmdb.open(os.fspath(folder), map_size=MAP_SIZE, max_dbs=2)
        self._ids = self._env.open_db(b"ids")
        self._meta = self._env.open_db(b"meta")
        with self._env.begin() as transaction:
            stored = transaction.get(b"size", db=self._meta)
        self._flushed = int.from_bytes(stored or b"", "big")
        self._fresh: dict[bytes, int] = {}
        self._size = self._flushed
        self._flush_every = flush_every

    @property
    def size(self) -> int:
        return self._size

    def find(self, ids: Sequence[bytes]) -> list[int | None]:
        found: list[int | None] = []
        with self._env.begin(db=self._ids) as transaction:
            for key in map(_key, ids):
                # Disk first: where an id came twice, the earlier leaf is the answer.
                stored = transaction.get(key)
                if stored is None:
                    found.append(self._fresh.get(key))
                else:
                    found.append(int.from_bytes(stored, "big"))
        return found

    def add(self, first: int, ids: Sequence[bytes]) -> None:
        if first != self._size:
            raise ValueError(f"the next leaf of the id index is {self._size}, not {first}")
        for index, key in enumerate(map(_key, ids), first):
            self._fresh.setdefault(key, index)
        self._size += len(ids)
        if self._size - self._flushed >= self._flush_every:
            self.flush()

    def flush(self) -> None:
        """Makes everything added durable."""
        if self._size == self._flushed:
            return
        # Sorted keys touch each page of the tree once.
        with self._env.begin(write=True, db=self._ids) as transaction:
            for key, index in sorted(self._fresh.items()):
                transaction.put(key, index.to_bytes(8, "big"), overwrite=False)
            transaction.put(b"size", self._size.to_bytes(8, "big"), db=self._meta)
        self._flushed = self._size
        self._fresh.clear()

    def close(self) -> None:
        self.flush()
        self._env.close()


def _key(event_id: bytes) -> bytes:
    if 0 < len(event_id) <= LONGEST_PLAIN and not event_id.startswith(b"#"):
        return event_id
    return b"#" + sha256(event_id).digest()
