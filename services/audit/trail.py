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

from services.audit.checkpoint import BadKey, Checkpoint, NoteVerifier, open_checkpoint
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
    """What was verified so far: the tree's edge and the newest note, under the key that was given,
    and those that leaves named as its successors."""

    vkey: str
    edge: TreeEdge = field(default_factory=TreeEdge)
    note: bytes = b""
    successors: list[str] = field(default_factory=list)
    ended: bool = False  # the given key signs no more

    def trust(self, vkey: str) -> None:
        """Believes a key that a proven leaf names. Raises BadKey."""
        if NoteVerifier.parse(vkey).name != NoteVerifier.parse(self.vkey).name:
            raise BadKey("the successor has another name")
        if vkey not in (self.vkey, *self.successors):
            self.successors.append(vkey)

    def distrust(self, vkey: str) -> None:
        """Believes a key no more that a proven leaf says has ended."""
        self.ended = self.ended or vkey == self.vkey
        self.successors = [each for each in self.successors if each != vkey]

    def follow(self, reader: TileReader) -> Iterator[tuple[int, Sequence[bytes]]]:
        """The entries that are new: (leaf of the first, entries), each part proven before it is
        given out and kept in the trail once the next one is asked for.

        Raises:
            Contradiction: the log is not the one that was followed so far.
            BadNote: the checkpoint is not signed by the log's key.
            BadProof, BadBundle, TileMissing: the tiles are not what the checkpoint signs.
        """
        own = NoteVerifier.parse(self.vkey)
        verifiers = [own] * (not self.ended) + [NoteVerifier.parse(key) for key in self.successors]
        note = reader.read_checkpoint()
        if note is None:
            if self.note:
                raise Contradiction("the log's checkpoint is gone")
            return
        signed = open_checkpoint(note, verifiers, own.name)
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
            "successors": self.successors,
            "ended": self.ended,
        }
        return json.dumps(kept, indent=1, ensure_ascii=False).encode() + b"\n"

    @classmethod
    def decode(cls, data: bytes, vkey: str) -> "Trail":
        """What `encode` gave, of the log of this key or of another key that takes its place since
        a person says so; raises BadTrail."""
        try:
            kept = json.loads(data)
            tails = [base64.b64decode(tail, validate=True) for tail in kept["tails"]]
            edge, note = TreeEdge.of(kept["size"], tails), kept["checkpoint"].encode()
            trail = cls(kept["vkey"], edge, note, [*kept["successors"]], kept["ended"] is True)
            same_log = NoteVerifier.parse(trail.vkey).name == NoteVerifier.parse(vkey).name
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadTrail("the state file is damaged") from error
        if not same_log:
            raise BadTrail("the state file is of another log")
        # Another key was given: what was seen stays, and is demanded of whatever it signs.
        return trail if trail.vkey == vkey else cls(vkey, trail.edge, trail.note)

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
