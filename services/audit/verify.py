"""Recomputes a whole log from its entry bundles and says whether it is what its checkpoint signs.

    python -m services.audit.verify FOLDER [--vkey VKEY] [--kafka BOOTSTRAP]

Takes FOLDER/vkey where no key is given: then it trusts whoever could write the folder, so keep the
vkey elsewhere if that matters. Needs no service and no private file; a log that grows meanwhile is
checked as of the checkpoint read first. Invariant: YES means that every byte of every file the
checkpoint needs was read and recomputed, and no older partial tile contradicts it.
"""

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from services.audit import merkle
from services.audit.checkpoint import BadKey, BadNote, Checkpoint, NoteVerifier, open_checkpoint
from services.audit.merkle import HASH_SIZE, TILE_WIDTH, HashTile, TreeEdge
from services.audit.ports import TileReader
from services.audit.reader import StoredTree
from services.audit.tiles import (
    WITNESSED,
    BadBundle,
    TilePath,
    bundle_prefix,
    parse_path,
    unpack_bundle,
)
from services.audit.tilestore import FolderReader

Progress = Callable[[int, int], None]
# Bundles hashed between two calls of `progress`: 16,384 leaves, some 30 ms.
BUNDLES_PER_STEP = 64


class _Wrong(Exception):
    """Something does not fit: what, where, and the first wrong leaf where one is known."""

    def __init__(self, problem: str, leaf: int | None = None) -> None:
        super().__init__(problem)
        self.leaf = leaf


@dataclass(frozen=True, slots=True)
class Verdict:
    """`problem` None is a yes. `wrong_leaf`: no leaf below it is wrong."""

    checkpoint: Checkpoint | None
    problem: str | None = None
    wrong_leaf: int | None = None
    ahead: int = 0

    @property
    def ok(self) -> bool:
        return self.problem is None

    def __str__(self) -> str:
        if self.checkpoint is None or not self.ok:
            leaf = "" if self.wrong_leaf is None else f"\nfirst wrong leaf: {self.wrong_leaf}"
            return f"NO: {self.problem}{leaf}"
        return (
            f"YES: {self.checkpoint.size} entries of {self.checkpoint.origin} recomputed, "
            f"root {self.checkpoint.root.hex()}"
        )


def verify_folder(
    folder: Path, vkey: str, progress: Progress = lambda done, total: None
) -> Verdict:
    """Checks signature, entries, every tile and the root; stops at the first thing wrong.

    Raises:
        BadKey: `vkey` is no key.
    """
    verifier = NoteVerifier.parse(vkey)
    reader = FolderReader(folder)
    checkpoint = None
    try:
        checkpoint = _open(reader, verifier)
        _check_tree(reader, checkpoint, progress)
        _check_witnessed(reader, verifier, checkpoint.size)
        ahead = _check_strays(reader, folder, checkpoint.size)
    except (_Wrong, BadNote) as wrong:
        return Verdict(checkpoint, str(wrong), wrong.leaf if isinstance(wrong, _Wrong) else None)
    return Verdict(checkpoint, ahead=ahead)


def _open(reader: TileReader, verifier: NoteVerifier) -> Checkpoint:
    beside = reader.read("vkey")
    if beside is not None and beside != verifier.vkey.encode() + b"\n":
        raise _Wrong("the vkey beside the log is not the given one")
    note = reader.read_checkpoint()
    if note is None:
        raise _Wrong("there is no checkpoint")
    return open_checkpoint(note, [verifier], verifier.name)


def _check_tree(reader: TileReader, checkpoint: Checkpoint, progress: Progress) -> None:
    edge = TreeEdge()
    size = checkpoint.size
    bundles = -(-size // TILE_WIDTH)
    progress(0, size)
    for start in range(0, bundles, BUNDLES_PER_STEP):
        hashes = []
        for index in range(start, min(start + BUNDLES_PER_STEP, bundles)):
            hashes.append(_check_bundle(reader, index, min(TILE_WIDTH, size - index * TILE_WIDTH)))
        for tile in edge.extend(b"".join(hashes)):
            _check_tile(reader, tile)
        progress(edge.size, size)
    for tile in edge.partials():
        _check_tile(reader, tile)
    if edge.root() != checkpoint.root:
        raise _Wrong("entries and tiles agree, but their root is not the signed one")


def _check_witnessed(reader: FolderReader, verifier: NoteVerifier, size: int) -> None:
    """The witnessed checkpoint is a beginning of the tree, whose tiles were found sound. Who
    cosigned it is the policy's to judge, not ours."""
    note = reader.read(WITNESSED)
    if note is None:
        return
    signed = open_checkpoint(note, [verifier], verifier.name)
    if signed.size <= size and StoredTree(reader, size).prover().root(signed.size) != signed.root:
        raise _Wrong(f"{WITNESSED} is signed, and of another tree of {signed.size} leaves")


def _check_bundle(reader: TileReader, index: int, width: int) -> bytes:
    """Leaf hashes of one bundle, equal to those of its level 0 tile."""
    first = index * TILE_WIDTH
    bundle_path, tile_path = TilePath(None, index, width), TilePath(0, index, width)
    expected = _read(reader, tile_path, first)[: width * HASH_SIZE]
    bundle = _read(reader, bundle_path, first)
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
        raise _Wrong(f"{bundle_path} or {tile_path} has something after its last leaf")
    raise _Wrong(f"an entry of {bundle_path} is not what {tile_path} has the hash of", leaf)


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
    found = _read(reader, path, first)
    # A full tile may stand in for a partial one that was dropped; its own file is exact.
    if found == tile.hashes or (reader.read(str(path)) is None and found.startswith(tile.hashes)):
        return
    number = 0
    while found[: (number + 1) * HASH_SIZE] == tile.hashes[: (number + 1) * HASH_SIZE]:
        number += 1
        if number == tile.width:
            raise _Wrong(f"{path} has something after its last hash")
    raise _Wrong(f"{path} is not what its leaves hash to", first + number * span)


def _read(reader: TileReader, path: TilePath, first: int) -> bytes:
    data = reader.read(str(path))
    if data is None:
        data = reader.read(str(path.full))
    if data is None:
        raise _Wrong(f"{path} is missing", first)
    return data


def _check_strays(reader: TileReader, folder: Path, size: int) -> int:
    """Files the checkpoint does not need: an older partial must be a prefix of what replaced it,
    tiles beyond the checkpoint are counted, anything else under tile/ is wrong."""
    ahead = 0
    for name in _files(folder):
        path = parse_path(name)
        if path is None:
            raise _Wrong(f"{name} is no name of a tile")
        level = path.level or 0
        last = size >> merkle.TILE_HEIGHT * (level + 1)
        needed = TILE_WIDTH if path.index < last else merkle.partial_width(size, level)
        if path.index > last or path.width > needed:
            ahead += 1
        elif path.width < needed:
            older = reader.read(name)
            newer = _read(reader, TilePath(path.level, path.index, needed), 0)
            if older is not None and not _is_prefix(path, older, newer):
                raise _Wrong(f"{name} contradicts the tile that replaced it")
    return ahead


def _is_prefix(path: TilePath, older: bytes, newer: bytes) -> bool:
    if path.level is None:
        return older == bundle_prefix(newer, path.width)
    return older == newer[: path.width * HASH_SIZE]


def _files(folder: Path) -> Iterator[str]:
    for root, _, names in os.walk(folder / "tile"):
        for name in names:
            yield os.path.relpath(os.path.join(root, name), folder)


@contextlib.contextmanager
def _bar() -> Iterator[Progress]:
    """A progress bar for a person at a terminal, silence for everyone else."""
    try:
        from rich.console import Console
        from rich.progress import MofNCompleteColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar
    except ModuleNotFoundError:
        yield lambda done, total: None
        return
    console = Console(stderr=True)
    columns = (*Bar.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("recomputing")
        yield lambda done, total: bar.update(task, completed=done, total=total)


def main(arguments: list[str] | None = None) -> int:
    """0 yes, 1 no, 2 usage, or what is asked about cannot be read."""
    parser = argparse.ArgumentParser("python -m services.audit.verify", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="the served folder of a log")
    parser.add_argument("--vkey", help="the log's public key (default: what FOLDER/vkey holds)")
    parser.add_argument("--kafka", metavar="BOOTSTRAP", help="compare with the event topics, too")
    given = parser.parse_args(arguments)
    if not given.folder.is_dir():
        parser.error(f"{given.folder} is not a folder")
    vkey = given.vkey
    if vkey is None:
        beside = FolderReader(given.folder).read("vkey")
        if beside is None:
            parser.error("there is no vkey in the folder; give --vkey")
        vkey = beside.decode(errors="replace").removesuffix("\n")
    try:
        with _bar() as progress:
            verdict = verify_folder(given.folder, vkey, progress)
    except BadKey as error:
        if given.vkey is not None:
            parser.error(str(error))
        verdict = Verdict(None, f"FOLDER/vkey: {error}")
    except OSError as error:
        parser.error(f"cannot read the log: {error}")
    print(verdict)
    if not verdict.ok or given.kafka is None:
        return 0 if verdict.ok else 1
    return _compare(given.folder, vkey, given.kafka)


def _compare(folder: Path, vkey: str, bootstrap: str) -> int:
    """Says how the log, found sound, agrees with the topics it was made from; 2: cannot tell."""
    from services.audit import compare  # the only part that needs Kafka's client and the protos

    try:
        problems = compare.compare_with_topics(folder, vkey, bootstrap, patience_seconds=10)
    except compare.TopicsUnreadable as error:
        print(f"the topics cannot be read: {error}", file=sys.stderr)
        return 2
    for problem in problems:
        print(f"NO: {problem}")
    if not problems:
        print("YES: each distinct event on the topics is one leaf, in the order of its partition")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
