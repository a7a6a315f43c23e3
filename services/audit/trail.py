"""Follows a log by its tiles alone and keeps what it has verified: the trail of one auditor.

Refuses to give out an entry that is not proven against a signed checkpoint, and to go on once the
log contradicted itself. Invariant: the kept tree only grows, and each of its leaves was hashed
here from the entry's octets; so whoever keeps the trail needs to believe nobody.
"""

import base64
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from services.audit.checkpoint import Checkpoint, NoteVerifier, open_checkpoint
from services.audit.merkle import TILE_WIDTH, TreeEdge, leaf_hashes
from services.audit.ports import TileReader
from services.audit.proof import BadProof, check_consistency
from services.audit.reader import StoredTree

# Leaves between two proofs: some MB of entries, and a proof reads about as many tiles as levels.
STEP: Final = 64 * TILE_WIDTH


class Contradiction(Exception):
    """The log signed two states of which one is not the other's beginning. Keep both notes: they
    prove it to everyone."""


class BadTrail(ValueError):
    """The kept trail is damaged, or another log's. Follow from the start with a new one."""


@dataclass
class Trail:
    """What was verified so far, under the log's key: the tree's edge and the newest note."""

    vkey: str
    edge: TreeEdge = field(default_factory=TreeEdge)
    note: bytes = b""

    def follow(self, reader: TileReader) -> Iterator[tuple[int, Sequence[bytes]]]:
        """The entries that are new: (leaf of the first, entries), each part proven before it is
        given out and kept in the trail once the next one is asked for.

        Raises:
            Contradiction: the log is not the one that was followed so far.
            BadNote: the checkpoint is not signed by the log's key.
            BadProof, BadBundle, TileMissing: the tiles are not what the checkpoint signs.
        """
        verifier = NoteVerifier.parse(self.vkey)
        note = reader.read_checkpoint()
        if note is None:
            if self.note:
                raise Contradiction("the log's checkpoint is gone")
            return
        signed = open_checkpoint(note, [verifier], verifier.name)
        tree = StoredTree(reader, signed.size)
        self._compare(signed, tree)
        while self.edge.size < signed.size:
            first = self.edge.size
            until = min(first - first % STEP + STEP, signed.size)
            entries = [entry for _, part in tree.entries(first, until) for entry in part]
            edge = self.edge.copy()
            edge.extend(leaf_hashes(entries))
            if edge.size != until:
                raise BadProof(f"the bundles of leaves {first} to {until} hold too little")
            proof = tree.prover().consistency(until)
            check_consistency(until, edge.root(), signed.size, signed.root, proof)
            yield first, entries
            self.edge = edge
        self.note = note

    def encode(self) -> bytes:
        kept = {
            "vkey": self.vkey,
            "size": self.edge.size,
            "tails": [base64.b64encode(tail).decode() for tail in self.edge.tails],
            "checkpoint": self.note.decode(),
        }
        return json.dumps(kept, indent=1, ensure_ascii=False).encode() + b"\n"

    @classmethod
    def decode(cls, data: bytes, vkey: str) -> "Trail":
        """What `encode` gave, of the log of this key; raises BadTrail."""
        try:
            kept = json.loads(data)
            tails = [base64.b64decode(tail, validate=True) for tail in kept["tails"]]
            trail = cls(kept["vkey"], TreeEdge.of(kept["size"], tails), kept["checkpoint"].encode())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadTrail("the state file is damaged") from error
        if trail.vkey != vkey:
            raise BadTrail("the state file is of another log or key")
        return trail

    def _compare(self, signed: Checkpoint, tree: StoredTree) -> None:
        """Demands that what was followed so far is the beginning of what is signed now."""
        size, root = self.edge.size, self.edge.root()
        if signed.size < size:
            raise Contradiction(f"the log shrank from {size} to {signed.size} leaves")
        if signed.size == size:
            if signed.root != root:
                raise Contradiction(f"the log signed two trees of {size} leaves")
            return
        prover = tree.prover()
        proof = prover.consistency(size)
        try:
            check_consistency(size, root, signed.size, signed.root, proof)
        except BadProof:
            # Do tiles and signature agree on another beginning, or are the tiles just damaged?
            check_consistency(size, prover.root(size), signed.size, signed.root, proof)
            raise Contradiction(f"the log's first {size} leaves are others than before") from None
