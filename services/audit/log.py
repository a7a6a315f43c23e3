"""The sequencer's log: appends batches of entries, commits the consumer's state with them.

Refuses to choose what an entry is or which event is new (`logfolder` does). Invariant: a published
checkpoint is never contradicted, and leaves and consumer state move together or not at all.

Order of one append, and what a crash leaves behind (each window is a test in test_log.py):

1. commit: record (batch, size, root, consumer state) replaced, durable.
   [A] crash before or in it: nothing happened, the consumer reads the batch again.
2. tiles: entry bundles and hash tiles, full and partial, durable.
   [B] crash before or in it: some tiles may exist; `open` writes the recorded batch again, the
   same bytes under the same names. The batch is never cut anew, so no tile is ever contradicted.
3. sign, then publish: compare-and-swap of the checkpoint, durable.
   [C] crash before it: `open` publishes. Ed25519 is deterministic: it is the same note.
   [D] crash after it: nothing is left to do.
4. partials whose tile is now full are dropped. A crash leaves some behind; readers do not mind.

Anything raised from step 1 on leaves the outcome open (applied, but an error seen), so the log
then refuses to work until it is opened again, which settles it.
"""

from collections.abc import Sequence

from services.audit.checkpoint import (
    Checkpoint,
    NoteSigner,
    NoteVerifier,
    open_checkpoint,
    sign_note,
)
from services.audit.merkle import EMPTY_ROOT, TILE_WIDTH, HashTile, TreeEdge, leaf_hashes
from services.audit.ports import StateStore, StorageConflict, TileStore
from services.audit.reader import StoredTree
from services.audit.record import TreeRecord
from services.audit.tiles import TilePath, bundle_path, hash_tile_path, pack_bundle, partials_folder


class LogBroken(Exception):
    """An earlier append failed half-way. Close the log and open it again; then its state tells."""


class Log:
    """One log with one writer. `append` is for one thread; the properties are for any.

    _edge, _bundle and _record are owned by the appending thread and describe the committed tree;
    _published is the checkpoint note on disk, replaced only after it is durable.
    """

    def __init__(
        self,
        tiles: TileStore,
        states: StateStore,
        signer: NoteSigner,
        beside: Sequence[NoteSigner] = (),
        ended: Sequence[NoteVerifier] = (),
    ) -> None:
        """For `open`, which alone knows in which state the stores are."""
        self._tiles = tiles
        self._states = states
        self._signers = (signer, *beside)
        self._ended = ended
        self.origin = signer.name
        self._broken = False
        self._edge = TreeEdge()
        self._bundle = b""
        self._record = TreeRecord(signer.name, 0, 0, EMPTY_ROOT, b"", ())
        self._published: tuple[bytes, Checkpoint] | None = None

    @classmethod
    def open(
        cls,
        tiles: TileStore,
        states: StateStore,
        signer: NoteSigner,
        beside: Sequence[NoteSigner] = (),
        ended: Sequence[NoteVerifier] = (),
    ) -> "Log":
        """Loads the log and finishes what a crash interrupted; makes it if both stores are empty.

        Those `beside` sign as well; a stored checkpoint may be of a key that `ended`.

        Raises:
            StorageConflict: the stores do not belong together, or go back behind a checkpoint.
            BadNote, BadRecord, TileMissing: what is stored is damaged.
        """
        log = cls(tiles, states, signer, beside, ended)
        stored, note = states.read_state(), tiles.read_checkpoint()
        if stored is None:
            if note is not None:
                raise StorageConflict("a checkpoint is published, but its private state is gone")
            states.replace_state(log._record.encode())
            log._publish()
            return log
        record = TreeRecord.decode(stored)
        if record.origin != signer.name:
            raise StorageConflict(f"the state is of {record.origin!r}, not of {signer.name!r}")
        if note is not None:
            log._load(note, record)
        elif record.size:
            raise StorageConflict("the published checkpoint is gone")
        log._redo(record)
        return log

    @property
    def checkpoint(self) -> Checkpoint:
        return self._current()[1]

    @property
    def note(self) -> bytes:
        """The published checkpoint as signed."""
        return self._current()[0]

    @property
    def state(self) -> bytes:
        """The consumer state committed with the last leaf."""
        return self._record.state

    @property
    def tree(self) -> StoredTree:
        """The published tree, for reading entries and making proofs."""
        return StoredTree(self._tiles, self.checkpoint.size)

    def append(self, entries: Sequence[bytes], state: bytes) -> Checkpoint:
        """Makes `entries` the next leaves and `state` the consumer's state; durable and published
        on return. Without entries only the state moves and the checkpoint stays.

        Raises:
            EntryTooLong: an entry is above 65,535 bytes; nothing happened.
            LogBroken: an earlier call failed.
            anything else: the outcome is open; reopen and look at `state`.
        """
        if self._broken:
            raise LogBroken("an earlier append failed half-way; open the log again")
        edge = self._edge.copy()
        full = edge.extend(leaf_hashes(entries))
        record = TreeRecord(
            self.origin, self._edge.size, edge.size, edge.root(), state, tuple(entries)
        )
        encoded = record.encode()
        self._broken = True
        # [A] The batch is nowhere yet. Once this returns it is part of the log for ever.
        self._states.replace_state(encoded)
        self._apply(record, edge, full)
        self._broken = False
        return self.checkpoint

    def _current(self) -> tuple[bytes, Checkpoint]:
        if self._published is None:
            raise LogBroken("nothing is published yet")
        return self._published

    def _load(self, note: bytes, record: TreeRecord) -> None:
        """Takes over the published tree, which is the recorded one or the one before it."""
        verifiers = [*(signer.verifier for signer in self._signers), *self._ended]
        checkpoint = open_checkpoint(note, verifiers, self.origin)
        if checkpoint.size not in (record.previous_size, record.size):
            raise StorageConflict(
                f"the checkpoint has {checkpoint.size} leaves, the private state "
                f"{record.previous_size} or {record.size}"
            )
        tree = StoredTree(self._tiles, checkpoint.size)
        self._edge = TreeEdge.load(checkpoint.size, tree.hashes)
        if self._edge.root() != checkpoint.root:
            raise StorageConflict("the stored tiles do not give the published root")
        if checkpoint.size % TILE_WIDTH:
            self._bundle = tree.bundle(checkpoint.size // TILE_WIDTH)
        self._published = note, checkpoint

    def _redo(self, record: TreeRecord) -> None:
        """Brings the served tree to the record. [B] and [C] end here; after [D] it is there."""
        edge = self._edge.copy()
        full = edge.extend(leaf_hashes(record.entries)) if edge.size != record.size else []
        if (edge.size, edge.root()) != (record.size, record.root):
            raise StorageConflict("the private state does not continue the published tree")
        if self._published is None or edge.size != self.checkpoint.size:
            self._apply(record, edge, full)
        self._record = record

    def _apply(self, record: TreeRecord, edge: TreeEdge, full: Sequence[HashTile]) -> None:
        """Steps 2 to 4 for a record that is committed."""
        bundles, self._bundle = _bundles(self._bundle, record.previous_size, record.entries)
        files = {hash_tile_path(tile.level, tile.index): tile.hashes for tile in full}
        for tile in edge.partials() if record.entries else ():
            files[hash_tile_path(tile.level, tile.index, tile.width)] = tile.hashes
        # [B] Committed, but the tree on disk is older, or has some of the new tiles.
        self._tiles.write(files | bundles)
        self._edge, self._record = edge, record
        # [C] The tree is complete on disk; readers still see the checkpoint before it.
        self._publish()
        # [D] Published. Readers of older checkpoints find the full tile instead of the partial.
        finished = [TilePath(tile.level, tile.index) for tile in full]
        finished += [TilePath(None, tile.index) for tile in finished if tile.level == 0]
        self._tiles.drop_partials([partials_folder(path) for path in finished])

    def _publish(self) -> None:
        size, root = self._record.size, self._record.root
        if self._published is not None and self.checkpoint.size == size:
            return
        checkpoint = Checkpoint(self.origin, size, root)
        note = sign_note(checkpoint.text(), self._signers)
        self._tiles.replace_checkpoint(self._published[0] if self._published else None, note)
        self._published = note, checkpoint


def _bundles(
    open_bundle: bytes, size: int, entries: Sequence[bytes]
) -> tuple[dict[str, bytes], bytes]:
    """Entry bundles that change when `entries` follow `size` leaves, and the new open one."""
    files: dict[str, bytes] = {}
    at = 0
    while at < len(entries):
        index, filled = divmod(size + at, TILE_WIDTH)
        take = entries[at : at + TILE_WIDTH - filled]
        at += len(take)
        open_bundle += pack_bundle(take)
        files[bundle_path(index, filled + len(take))] = open_bundle
        if filled + len(take) == TILE_WIDTH:
            open_bundle = b""
    return files, open_bundle
