"""Opens a log on a file system and appends events to it, each event id once.

Puts the parts together: lock and store, key, log, id index. Invariant: before an event is judged
new, the id index has seen every leaf of the log.

    ROOT/log/       served: checkpoint, tile/..., vkey
    ROOT/private/   never served: key, tree-state, ids/, staging/, lock
"""

import operator
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from services.audit.checkpoint import BadKey, Checkpoint, NoteSigner
from services.audit.idindex import IdIndex
from services.audit.log import Log
from services.audit.ports import EventIds, StorageConflict
from services.audit.tilestore import FolderStore

# Gives the event id out of a stored entry; the same that was given to `append` with it.
IdOf = Callable[[bytes], bytes]
# Whether two entries of one id are one event.
Same = Callable[[bytes, bytes], bool]


@dataclass(frozen=True, slots=True)
class Event:
    """An event on its way to be a leaf: its id and the exact bytes to store."""

    event_id: bytes
    entry: bytes


@dataclass(frozen=True, slots=True)
class Appended:
    """For each event its leaf (an older one for a repeat), under the checkpoint that covers it."""

    checkpoint: Checkpoint
    leaves: list[int]
    fresh: int


class LogFolder:
    """The sequencer's hold on one log. One thread appends."""

    def __init__(
        self, log: Log, ids: EventIds, id_of: IdOf, held: ExitStack, same: Same = operator.eq
    ) -> None:
        self.log = log
        self._same = same
        self._ids = ids
        self._id_of = id_of
        self._held = held

    @classmethod
    def open(cls, root: Path, origin: str, id_of: IdOf, same: Same = operator.eq) -> "LogFolder":
        """Makes the log with a new key, or loads it, finishing what a crash interrupted.

        Raises:
            LogLocked: another sequencer has it open.
            StorageConflict, BadKey, BadNote, BadRecord, TileMissing: see `Log.open`.
        """
        with ExitStack() as held:
            store = FolderStore(root / "log", root / "private")
            held.callback(store.close)
            log = Log.open(store, store, _signer(store, origin))
            ids = IdIndex(root / "private" / "ids")
            held.callback(ids.close)
            catch_up(ids, log, id_of)
            return cls(log, ids, id_of, held.pop_all(), same)

    def append(
        self,
        events: Sequence[Event],
        state: bytes,
        contradicted: Callable[[int], Event] | None = None,
    ) -> Appended:
        """Appends the events whose ids are no leaves yet; errors as `Log.append`. In place of one
        whose id is known with another content goes what `contradicted` makes of its place."""
        events = self._judged(events, contradicted) if contradicted else events
        catch_up(self._ids, self.log, self._id_of)
        size = self.log.checkpoint.size
        leaves: list[int] = []
        fresh: dict[bytes, int] = {}
        entries: list[bytes] = []
        known = self._ids.find([event.event_id for event in events])
        for event, leaf in zip(events, known, strict=True):
            if leaf is None and (leaf := fresh.get(event.event_id)) is None:
                leaf = fresh[event.event_id] = size + len(entries)
                entries.append(event.entry)
            leaves.append(leaf)
        checkpoint = self.log.append(entries, state)
        # A crash here loses only what catch_up reads again.
        self._ids.add(size, list(fresh))
        return Appended(checkpoint, leaves, len(entries))

    def _judged(
        self, events: Sequence[Event], contradicted: Callable[[int], Event]
    ) -> Sequence[Event]:
        catch_up(self._ids, self.log, self._id_of)
        first: dict[bytes, bytes] = {}
        again: dict[int, list[int]] = {}  # leaf -> places of its repeats
        wrong = []
        known = self._ids.find([event.event_id for event in events])
        for place, (event, leaf) in enumerate(zip(events, known, strict=True)):
            if leaf is not None:
                again.setdefault(leaf, []).append(place)
            elif not self._same(first.setdefault(event.event_id, event.entry), event.entry):
                wrong.append(place)
        for leaf, entry in self.log.tree.pick(sorted(again)):
            wrong += [at for at in again[leaf] if not self._same(entry, events[at].entry)]
        if not wrong:
            return events
        judged = list(events)
        for place in wrong:
            judged[place] = contradicted(place)
        return judged

    def find(self, event_ids: Sequence[bytes]) -> list[int | None]:
        """The leaf of each event id, for receipts. For the appending thread."""
        return self._ids.find(event_ids)

    def close(self) -> None:
        """Writes what the id index still holds in memory and gives the locks back."""
        self._held.close()


def catch_up(ids: EventIds, log: Log, id_of: IdOf) -> None:
    """Adds to `ids` the leaves it lacks.

    Raises:
        StorageConflict: it has more leaves than the log: it is another log's.
    """
    size = log.checkpoint.size
    if ids.size > size:
        raise StorageConflict("the id index is ahead of the log; remove it and it is made anew")
    for first, entries in log.tree.entries(ids.size, size):
        ids.add(first, [id_of(entry) for entry in entries])


def _signer(store: FolderStore, origin: str) -> NoteSigner:
    """The log's key. It is durable before anything is signed, and made only for an empty log."""
    stored = store.read_private("key")
    if stored is None:
        if store.read_checkpoint() is not None or store.read_state() is not None:
            raise StorageConflict("the log exists, but its key is gone")
        signer = NoteSigner.generate(origin)
        store.write_private("key", signer.skey().encode() + b"\n")
    else:
        signer = NoteSigner.parse(stored.decode().removesuffix("\n"))
    if signer.name != origin:
        raise BadKey(f"the key is of {signer.name!r}, not of {origin!r}")
    vkey = signer.verifier.vkey.encode() + b"\n"
    served = store.read("vkey")
    if served is None:
        store.write_served("vkey", vkey)
    elif served != vkey:
        raise StorageConflict("the vkey beside the log is not that of its key")
    return signer
