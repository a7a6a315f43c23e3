"""The published log as a reader sees it: the served folder, and nothing else.

Takes no lock and never writes, so any process on any copy of the folder can answer from it. Refuses
a checkpoint that the key beside it did not sign. Invariant: one `Published` is one state of the
log; whatever is answered from it stays true however far the log grows meanwhile.
"""

from datetime import timedelta
from pathlib import Path
from typing import Final

from services.audit.checkpoint import NoteVerifier, open_checkpoint
from services.audit.ports import Published
from services.audit.reader import StoredTree
from services.audit.tiles import CHECKPOINT, WITNESSED
from services.audit.tilestore import VKEY, FolderReader
from services.runtime.errors import Unavailable

_RETRY: Final = timedelta(seconds=1)


class ServedFolder:
    """PublishedLog on a file system. Safe from many threads."""

    def __init__(self, folder: Path) -> None:
        self._reader = FolderReader(folder)
        self._last: dict[str, Published] = {}

    def published(self) -> Published:
        found = self._read(CHECKPOINT)
        if found is None:
            raise Unavailable("LOG_EMPTY", "the log has no checkpoint yet", retry_after=_RETRY)
        return found

    def witnessed(self) -> Published | None:
        return self._read(WITNESSED)

    def _read(self, name: str) -> Published | None:
        note = self._reader.read(name)
        last = self._last.get(name)
        if last is not None and last.note == note:
            return last
        vkey = self._reader.read(VKEY)
        if note is None or vkey is None:
            return None
        vkeys = tuple(vkey.decode().removesuffix("\n").split("\n"))
        verifiers = [NoteVerifier.parse(each) for each in vkeys]
        checkpoint = open_checkpoint(note, verifiers, verifiers[0].name)
        tree = StoredTree(self._reader, checkpoint.size)
        self._last[name] = found = Published(note, vkeys, tree)
        return found
