"""Encodes the sequencer's private record: one file that commits leaves and offsets together.

The record holds the last batch whole, so that whatever a crash left undone in the served tree can
be done again with the same bytes. Pure. Invariant: a record that decodes is the one encoded; a
torn or damaged one is refused by its digest.

Form: a magic line, a JSON line, the consumer's state, the batch as an entry bundle, and the
SHA-256 of all of it.
"""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from services.audit.tiles import pack_bundle, unpack_bundle

_MAGIC = b"axbridge tree state 1\n"
_DIGEST = 32


class BadRecord(Exception):
    """The private record is damaged. Restore it, or start a new log with a new origin."""


@dataclass(frozen=True, slots=True)
class TreeRecord:
    """Size and root after the last batch, the size before it, the batch, the consumer's state."""

    origin: str
    previous_size: int
    size: int
    root: bytes
    state: bytes
    entries: Sequence[bytes]

    def encode(self) -> bytes:
        header = {
            "origin": self.origin,
            "previous_size": self.previous_size,
            "size": self.size,
            "root": base64.b64encode(self.root).decode(),
            "state_length": len(self.state),
        }
        line = json.dumps(header, separators=(",", ":")).encode() + b"\n"
        body = b"".join((_MAGIC, line, self.state, pack_bundle(self.entries)))
        return body + sha256(body).digest()

    @classmethod
    def decode(cls, data: bytes) -> "TreeRecord":
        """Reads what `encode` gave; raises BadRecord."""
        body, digest = data[:-_DIGEST], data[-_DIGEST:]
        if not body.startswith(_MAGIC) or sha256(body).digest() != digest:
            raise BadRecord("the private tree state is damaged")
        line, _, rest = body[len(_MAGIC) :].partition(b"\n")
        header = json.loads(line)
        cut = header["state_length"]
        return cls(
            origin=header["origin"],
            previous_size=header["previous_size"],
            size=header["size"],
            root=base64.b64decode(header["root"]),
            state=rest[:cut],
            entries=unpack_bundle(rest[cut:]),
        )
