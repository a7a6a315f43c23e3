"""Writes and reads offline proofs: C2SP tlog-proof, one text file that shows an entry's inclusion.

Pure. Invariant: `check` returns only when the hash of the entry, the path and the signed root fit
together; an entry, the file and the log's vkey are all it needs.
"""

import base64
import binascii
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from services.audit.checkpoint import Checkpoint, NoteVerifier, open_checkpoint
from services.audit.merkle import HASH_SIZE, leaf_hash
from services.audit.proof import BadProof, check_inclusion

_HEADER = "c2sp.org/tlog-proof@v1"


@dataclass(frozen=True, slots=True)
class OfflineProof:
    """Leaf `index`, its audit path and the checkpoint it leads to."""

    index: int
    hashes: Sequence[bytes]
    note: bytes

    def render(self) -> bytes:
        lines = [_HEADER, f"index {self.index}"]
        lines += [base64.b64encode(node).decode() for node in self.hashes]
        return "".join(f"{line}\n" for line in lines).encode() + b"\n" + self.note

    @classmethod
    def parse(cls, data: bytes) -> "OfflineProof":
        """Raises BadProof unless `data` is a proof in its one spelling. Extra data is not taken:
        axbridge writes none."""
        head, found, note = data.partition(b"\n\n")
        try:
            header, index, *encoded = head.decode().split("\n")
            hashes = [base64.b64decode(line, validate=True) for line in encoded]
            proof = cls(int(index.removeprefix("index ")), hashes, note)
        except (ValueError, binascii.Error):
            raise BadProof("not an offline proof") from None
        sizes = {len(node) for node in hashes} - {HASH_SIZE}
        if not found or header != _HEADER or sizes or proof.render() != data:
            raise BadProof("not an offline proof")
        return proof

    def check(self, entry: bytes, verifiers: Iterable[NoteVerifier], origin: str) -> Checkpoint:
        """The checkpoint that covers `entry`.

        Raises:
            BadNote: no known key signed it for `origin`.
            BadProof: the entry is not leaf `index` of its tree.
        """
        signed = open_checkpoint(self.note, verifiers, origin)
        check_inclusion(leaf_hash(entry), self.index, signed.size, list(self.hashes), signed.root)
        return signed
