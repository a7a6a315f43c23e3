"""Reads a stored log at a given size: hash tiles, entries and proofs, through a TileReader.

Needs no sequencer, so any process can answer from the served tree. It believes what is stored;
`verify` does not. Invariant: a partial tile that is gone is answered from its full tile, since
partials are dropped once the full one is durable.
"""

from collections.abc import Iterable, Iterator
from itertools import groupby

from services.audit.merkle import HASH_SIZE, TILE_HEIGHT, TILE_WIDTH, partial_width
from services.audit.ports import TileReader
from services.audit.proof import TreeProver
from services.audit.tiles import TilePath, bundle_prefix, unpack_bundle


class TileMissing(Exception):
    """The store lacks a tile that this size needs, or holds too little of it. Data is damaged."""


class StoredTree:
    """The tree of `size` leaves. Immutable, since the tiles are: safe from many threads."""

    def __init__(self, tiles: TileReader, size: int) -> None:
        self.size = size
        self._tiles = tiles

    def hashes(self, level: int, index: int, width: int) -> bytes:
        """The first `width` hashes of a tile; raises TileMissing."""
        data = self._read(TilePath(level, index, width))
        if len(data) < width * HASH_SIZE:
            raise TileMissing(f"{TilePath(level, index, width)} is cut short")
        return data[: width * HASH_SIZE]

    def bundle(self, index: int) -> bytes:
        """Entry bundle `index` as far as the tree reaches, packed; raises TileMissing."""
        width = min(TILE_WIDTH, self.size - index * TILE_WIDTH)
        return bundle_prefix(self._read(TilePath(None, index, width)), width)

    def entries(self, low: int, high: int) -> Iterator[tuple[int, list[bytes]]]:
        """Entries [low, high) in order, a bundle's worth at a time: (index of the first, them)."""
        for index in range(low // TILE_WIDTH, -(-high // TILE_WIDTH)):
            start = index * TILE_WIDTH
            entries = unpack_bundle(self.bundle(index))[max(low - start, 0) : high - start]
            yield max(low, start), entries

    def entry(self, index: int) -> bytes:
        """Entry number `index`; raises IndexError beyond the tree."""
        if not 0 <= index < self.size:
            raise IndexError(f"leaf {index} is outside the tree of {self.size}")
        return next(self.entries(index, index + 1))[1][0]

    def pick(self, leaves: Iterable[int]) -> Iterator[tuple[int, bytes]]:
        """The entries of ascending `leaves`, each with its index, reading each bundle once."""
        for index, group in groupby(leaves, lambda leaf: leaf // TILE_WIDTH):
            entries = unpack_bundle(self.bundle(index))
            for leaf in group:
                yield leaf, entries[leaf % TILE_WIDTH]

    def leaf_hash(self, index: int) -> bytes:
        """Hash of leaf `index` as stored; raises IndexError beyond the tree."""
        if not 0 <= index < self.size:
            raise IndexError(f"leaf {index} is outside the tree of {self.size}")
        tile, offset = divmod(index, TILE_WIDTH)
        return self._prefix(0, tile, offset + 1)[offset * HASH_SIZE :]

    def prover(self, size: int | None = None) -> TreeProver:
        """A prover for the tree as it was at `size` (default: now), reading each tile once.

        For one request; not to be shared by threads. Raises ValueError beyond the tree.
        """
        size = self.size if size is None else size
        if not 0 <= size <= self.size:
            raise ValueError(f"size {size} is outside the tree of {self.size}")
        return TreeProver(size, self._prefix)

    def _prefix(self, level: int, index: int, width: int) -> bytes:
        """As `hashes`, out of the tile as it is in this tree: a narrower one may never have been
        written."""
        complete = index < self.size >> TILE_HEIGHT * (level + 1)
        stored = TILE_WIDTH if complete else partial_width(self.size, level)
        return self.hashes(level, index, max(stored, width))[: width * HASH_SIZE]

    def _read(self, path: TilePath) -> bytes:
        data = self._tiles.read(str(path))
        if data is None and path.width < TILE_WIDTH:
            data = self._tiles.read(str(path.full))
        if data is None:
            raise TileMissing(f"{path} is missing")
        return data
