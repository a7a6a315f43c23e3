"""Opens a log on a file system and appends events to it, each event id once.

Puts the parts together: lock and store, key, log, id index. Invariant: before an event is judged
new, the id index has seen every leaf of the log.

    ROOT/log/       served: checkpoint, tile/..., vkey
    ROOT/private/   never served: key, tree-state, ids/, staging/, lock
"""

import operator
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.audit.checkpoint import BadNote, Checkpoint, NoteSigner, open_note, text_of
from services.audit.idindex import IdIndex
from services.audit.log import Log
from services.audit.logkeys import KeyChange, LogKeys
from services.audit.ports import EventIds, StorageConflict
from services.audit.tiles import WITNESSED
from services.audit.tilestore import VKEY, FolderStore

KEY: Final = "key"
# What an append of 2,000 events may take: a disk without room is noticed before it is relied on.
_PROBE: Final = 1 << 20

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


# Makes the event of a change of keys, of its leaf and the time in ms.
KeyEvent = Callable[[KeyChange, int, int], Event]


def no_key_event(change: KeyChange, leaf: int, time_ms: int) -> Event:
    """For logs whose keys stay as they are."""
    raise NotImplementedError("this log does not know how to record a change of its keys")


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
    def open(
        cls,
        root: Path,
        origin: str,
        id_of: IdOf,
        same: Same = operator.eq,
        key_event: KeyEvent = no_key_event,
    ) -> "LogFolder":
        """Makes the log with a new key, or loads it, finishing what a crash interrupted. A change
        of keys that began becomes a leaf, made by `key_event`.

        Raises:
            LogLocked: another sequencer has it open.
            StorageConflict, BadKey, BadNote, BadRecord, TileMissing: see `Log.open`.
        """
        with ExitStack() as held:
            store = FolderStore(root / "log", root / "private")
            held.callback(store.close)
            store.write_private("probe", bytes(_PROBE))
            keys = read_keys(store, origin)
            _withdraw_ended(store, keys)
            before = store.read_checkpoint()
            ended = [end.verifier for end in keys.ended]
            log = Log.open(store, store, keys.signers[0], keys.signers[1:], ended)
            ids = IdIndex(root / "private" / "ids")
            held.callback(ids.close)
            catch_up(ids, log, id_of)
            folder = cls(log, ids, id_of, ExitStack(), same)
            last = log.checkpoint if before is None else Checkpoint.parse(text_of(before))
            _settle_keys(folder, store, keys, key_event, last)
            folder._held = held.pop_all()
            return folder

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


def read_keys(store: FolderStore, origin: str) -> LogKeys:
    """The log's keys. They are durable before anything is signed, and made only for an empty log.

    Raises:
        StorageConflict: the log is there and its keys are not, or are another log's.
        BadKey: the file is damaged or of another origin.
    """
    stored = store.read_private(KEY)
    if stored is None:
        if store.read_checkpoint() is not None or store.read_state() is not None:
            raise StorageConflict("the log exists, but its key is gone")
        keys = LogKeys([NoteSigner.generate(origin)])
        store.write_private(KEY, keys.render().encode())
    else:
        keys = LogKeys.parse(stored.decode(), origin)
    ours = {*keys.vkeys, *(end.verifier.vkey for end in keys.ended)}
    if (served := _served(store)) and not ours & set(served):
        raise StorageConflict("the vkey beside the log is not that of its key")
    if not served:  # before any checkpoint that readers would want to open with it
        _write_served(store, keys.vkeys[:1])
    return keys


def _served(store: FolderStore) -> list[str]:
    found = store.read(VKEY)
    return [] if found is None else found.decode(errors="replace").removesuffix("\n").split("\n")


def _write_served(store: FolderStore, vkeys: Sequence[str]) -> None:
    if _served(store) != list(vkeys):
        store.write_served(VKEY, "".join(f"{vkey}\n" for vkey in vkeys).encode())


def _withdraw_ended(store: FolderStore, keys: LogKeys) -> None:
    """Nobody is told any more to believe a key that ended, and what only it vouches for is not
    served; before the first checkpoint without it, so that readers who know the keys beside the
    log always find their signatures."""
    if not keys.ended:
        return
    known = [vkey for vkey in keys.vkeys if vkey in _served(store)]
    _write_served(store, known or keys.vkeys)
    note = store.read(WITNESSED)
    if note is not None:
        try:
            open_note(note, [signer.verifier for signer in keys.signers])
        except BadNote:
            store.remove_served(WITNESSED)


def _settle_keys(
    folder: "LogFolder", store: FolderStore, keys: LogKeys, key_event: KeyEvent, last: Checkpoint
) -> None:
    """Makes each change of keys a leaf. A crash anywhere in it: the leaves are found by their ids
    and not made again, and the files are written the next time."""
    # After a compromise no key of before is left, and the new one stands beside the log already.
    revoked = any(end.compromised for end in keys.ended)
    known = () if revoked else _served(store)
    changes = [KeyChange(vkey) for vkey in keys.vkeys if vkey not in known]
    changes += [KeyChange(end.verifier.vkey, last, end.compromised) for end in keys.ended]
    for change in changes:
        now = int(time.time() * 1000)
        event = key_event(change, folder.log.checkpoint.size, now)
        folder.append([event], folder.log.state)
    # [K] A crash here: the change is a leaf, and these files do not say so yet.
    _write_served(store, keys.vkeys)
    if keys.ended:
        store.write_private(KEY, LogKeys(keys.signers).render().encode())
