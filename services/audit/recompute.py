"""Recomputes the tree of a log from its entry bundles and compares every tile, on all cores.

The bundles are shared out among processes, which hash leaves and level 0 tiles; the tiles above
(one hash in 256) and the root are computed here, in order. Believes no file. Invariant: the first
wrong leaf is the same whatever the number of processes, since their answers are taken in order.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from services.audit import merkle
from services.audit.checkpoint import Checkpoint
from services.audit.merkle import HASH_SIZE, TILE_WIDTH, HashTile, TreeEdge
from services.audit.ports import TileReader
from services.audit.tiles import BadBundle, TilePath, bundle_prefix, unpack_bundle
from services.audit.tilestore import FolderReader

Progress = Callable[[int, int], None]
# Bundles of one task, and of one call of `progress`: 16,384 leaves, some 30 ms.
BUNDLES_PER_STEP: Final = 64
# Below it a second process takes longer to start (some 0.2 s) than it saves.
WORTH_SHARING: Final = 8 * BUNDLES_PER_STEP
# Roots of level 0 tiles, joined, as far as they are right; what is wrong then, and its first leaf.
_Part = tuple[bytes, str | None, int | None]


class Wrong(Exception):
    """Something does not fit: what, where, and the first wrong leaf where one is known."""

    def __init__(self, problem: str, leaf: int | None = None) -> None:
        super().__init__(problem)
        self.leaf = leaf


def check_tree(folder: Path, checkpoint: Checkpoint, progress: Progress, processes: int) -> None:
    """Compares entries, every tile and the root with what the checkpoint signs.

    Raises:
        Wrong: the first thing that does not fit.
    """
    reader, size = FolderReader(folder), checkpoint.size
    full, left = divmod(size, TILE_WIDTH)
    above = TreeEdge()  # of the level 0 tiles' roots: its level 0 is the log's level 1
    progress(0, size)
    with _roots(folder, full, processes) as parts:
        for roots, problem, leaf in parts:
            for tile in above.extend(roots):
                _check_tile(reader, _raised(tile))
            if problem is not None:
                raise Wrong(problem, leaf)
            progress(above.size * TILE_WIDTH, size)
    tail = _check_bundle(reader, full, left) if left else b""
    for tile in above.partials():
        _check_tile(reader, _raised(tile))
    edge = TreeEdge.of(size, [tail, *above.tails][: merkle.levels(size)])
    if left:
        _check_tile(reader, edge.partials()[0])
    progress(size, size)
    if edge.root() != checkpoint.root:
        raise Wrong("entries and tiles agree, but their root is not the signed one")


@contextmanager
def _roots(folder: Path, bundles: int, processes: int) -> Iterator[Iterator[_Part]]:
    """The roots of the full level 0 tiles, a step at a time, in order."""
    starts = range(0, bundles, BUNDLES_PER_STEP)
    task = partial(check_bundles, os.fspath(folder), bundles)
    if processes == 1 or bundles < WORTH_SHARING:
        yield map(task, starts)
        return
    # Spawned: a fork would take over whatever threads and locks the caller has.
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"))
    try:
        yield pool.map(task, starts)
    finally:
        pool.shutdown(cancel_futures=True)


def check_bundles(folder: str, bundles: int, start: int) -> _Part:
    """One task: the full bundles of one step, each compared with its level 0 tile."""
    reader, roots = FolderReader(Path(folder)), []
    for index in range(start, min(start + BUNDLES_PER_STEP, bundles)):
        try:
            hashes = _check_bundle(reader, index, TILE_WIDTH)
            _check_tile(reader, HashTile(0, index, hashes))
            roots.append(merkle.tile_roots(hashes))
        except Wrong as wrong:
            return b"".join(roots), str(wrong), wrong.leaf
    return b"".join(roots), None, None


def _raised(tile: HashTile) -> HashTile:
    return HashTile(tile.level + 1, tile.index, tile.hashes)


def _check_bundle(reader: TileReader, index: int, width: int) -> bytes:
    """Leaf hashes of one bundle, equal to those of its level 0 tile."""
    first = index * TILE_WIDTH
    bundle_path, tile_path = TilePath(None, index, width), TilePath(0, index, width)
    expected = read_tile(reader, tile_path, first)[: width * HASH_SIZE]
    bundle = read_tile(reader, bundle_path, first)
    try:
        if width < TILE_WIDTH and reader.read(str(bundle_path)) is None:
            bundle = bundle_prefix(bundle, width)
        hashes = merkle.leaf_hashes(unpack_bundle(bundle))
    except BadBundle:
        hashes = b""
    if hashes == expected and len(hashes) == width * HASH_SIZE:
        return hashes
    leaf = first + _first_difference(bundle, expected, width)
    if leaf == first + width:
        raise Wrong(f"{bundle_path} or {tile_path} has something after its last leaf")
    raise Wrong(f"an entry of {bundle_path} is not what {tile_path} has the hash of", leaf)


def _first_difference(bundle: bytes, expected: bytes, width: int) -> int:
    """Number of leading entries of a wrong bundle that do have their hash in the tile."""
    at = 0
    for number in range(width):
        end = at + 2 + int.from_bytes(bundle[at : at + 2], "big")
        want = expected[number * HASH_SIZE : (number + 1) * HASH_SIZE]
        if at + 2 > len(bundle) or merkle.leaf_hash(bundle[at + 2 : end]) != want:
            return number
        at = end
    return width


def _check_tile(reader: TileReader, tile: HashTile) -> None:
    path = TilePath(tile.level, tile.index, tile.width)
    span = TILE_WIDTH**tile.level
    first = tile.index * TILE_WIDTH * span
    found = read_tile(reader, path, first)
    # A full tile may stand in for a partial one that was dropped; its own file is exact.
    if found == tile.hashes or (reader.read(str(path)) is None and found.startswith(tile.hashes)):
        return
    number = 0
    while found[: (number + 1) * HASH_SIZE] == tile.hashes[: (number + 1) * HASH_SIZE]:
        number += 1
        if number == tile.width:
            raise Wrong(f"{path} has something after its last hash")
    raise Wrong(f"{path} is not what its leaves hash to", first + number * span)


def read_tile(reader: TileReader, path: TilePath, first: int) -> bytes:
    """A tile, or the full one that replaced it; raises Wrong, `first` being its first leaf."""
    data = reader.read(str(path))
    if data is None:
        data = reader.read(str(path.full))
    if data is None:
        raise Wrong(f"{path} is missing", first)
    return data
