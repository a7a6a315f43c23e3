"""Hashes the tree of the audit log (RFC 6962 §2.1) in tiles of 256 hashes.

Knows nothing of files or signatures: it takes leaf hashes and gives tiles and roots; proofs are
in `proof`. Invariant: only full tiles are hashed into the level above, so a node once given out is
never changed by a later leaf.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256

HASH_SIZE = 32
TILE_HEIGHT = 8  # C2SP tlog-tiles: the only height it allows
TILE_WIDTH = 1 << TILE_HEIGHT
EMPTY_ROOT = sha256(b"").digest()
LEAF_PREFIX = b"\x00"
NODE_PREFIX = b"\x01"

# (level, index, width) -> width hashes. A reader may answer from the full tile.
ReadHashTile = Callable[[int, int, int], bytes]


@dataclass(frozen=True, slots=True)
class HashTile:
    """One tile: `width` hashes at tile level `level`, the first of them number `index` * 256."""

    level: int
    index: int
    hashes: bytes

    @property
    def width(self) -> int:
        return len(self.hashes) // HASH_SIZE


def leaf_hash(entry: bytes) -> bytes:
    return sha256(LEAF_PREFIX + entry).digest()


def leaf_hashes(entries: Iterable[bytes]) -> bytes:
    """Leaf hashes of `entries`, joined."""
    return b"".join([sha256(LEAF_PREFIX + entry).digest() for entry in entries])


def node_hash(left: bytes, right: bytes) -> bytes:
    return sha256(NODE_PREFIX + left + right).digest()


def tile_roots(hashes: bytes, height: int = TILE_HEIGHT) -> bytes:
    """Roots of the complete subtrees of 2**height hashes that `hashes` consists of, joined."""
    for _ in range(height):
        hashes = b"".join(
            [
                sha256(NODE_PREFIX + hashes[at : at + 64]).digest()
                for at in range(0, len(hashes), 64)
            ]
        )
    return hashes


def root_of(hashes: bytes) -> bytes:
    """Root over any number of hashes above zero; the last may stand for an incomplete subtree.

    Pairing level by level and lifting a lone last node gives the same tree as RFC 6962's split
    at the largest power of two strictly below n.
    """
    while len(hashes) > HASH_SIZE:
        even = len(hashes) & ~63
        hashes = tile_roots(hashes[:even], 1) + hashes[even:]
    return hashes


class TreeEdge:
    """Right edge of a growing tree: per tile level the hashes of the one tile not yet full."""

    def __init__(self) -> None:
        self.size = 0
        self._tails: list[bytes] = []

    @classmethod
    def load(cls, size: int, read: ReadHashTile) -> "TreeEdge":
        """The edge of a stored tree of `size` leaves: one partial tile per level is read."""
        edge = cls()
        edge.size = size
        for level in range(levels(size)):
            width = partial_width(size, level)
            index = size >> TILE_HEIGHT * (level + 1)
            edge._tails.append(read(level, index, width) if width else b"")
        return edge

    @classmethod
    def of(cls, size: int, tails: Iterable[bytes]) -> "TreeEdge":
        """The edge whose `size` and `tails` were kept.

        Raises:
            ValueError: they do not go together.
        """
        edge = cls()
        edge.size, edge._tails = size, list(tails)
        widths = [partial_width(size, level) * HASH_SIZE for level in range(levels(size))]
        if size < 0 or [len(tail) for tail in edge._tails] != widths:
            raise ValueError("not the edge of a tree of this size")
        return edge

    @property
    def tails(self) -> tuple[bytes, ...]:
        """Per level, lowest first, the hashes of the tile not yet full."""
        return tuple(self._tails)

    def copy(self) -> "TreeEdge":
        other = TreeEdge()
        other.size = self.size
        other._tails = list(self._tails)
        return other

    def extend(self, hashes: bytes) -> list[HashTile]:
        """Appends leaf hashes; gives the tiles that became full, lowest level first."""
        full: list[HashTile] = []
        tile_bytes = TILE_WIDTH * HASH_SIZE
        start = self.size
        self.size += len(hashes) // HASH_SIZE
        level = 0
        while hashes:
            if level == len(self._tails):
                self._tails.append(b"")
            data = self._tails[level] + hashes
            cut = len(data) - len(data) % tile_bytes
            self._tails[level] = data[cut:]
            first = start >> TILE_HEIGHT * (level + 1)
            for at in range(0, cut, tile_bytes):
                full.append(HashTile(level, first + at // tile_bytes, data[at : at + tile_bytes]))
            hashes = tile_roots(data[:cut]) if cut else b""
            level += 1
        return full

    def partials(self) -> list[HashTile]:
        """The tiles that are neither empty nor full, lowest level first."""
        return [
            HashTile(level, self.size >> TILE_HEIGHT * (level + 1), tail)
            for level, tail in enumerate(self._tails)
            if tail
        ]

    def root(self) -> bytes:
        below = b""
        for tail in self._tails:
            if tail or below:
                below = root_of(tail + below)
        return below or EMPTY_ROOT


def levels(size: int) -> int:
    """Number of tile levels of a tree of `size` leaves."""
    return (size.bit_length() + TILE_HEIGHT - 1) // TILE_HEIGHT


def partial_width(size: int, level: int) -> int:
    """Width of the partial tile at `level`; 0 where there is none."""
    return (size >> TILE_HEIGHT * level) % TILE_WIDTH


def tiles_of(size: int) -> Iterator[tuple[int, int, int]]:
    """(level, index, width) of every tile that a tree of `size` leaves needs."""
    for level in range(levels(size)):
        full = size >> TILE_HEIGHT * (level + 1)
        for index in range(full):
            yield level, index, TILE_WIDTH
        if width := partial_width(size, level):
            yield level, full, width
