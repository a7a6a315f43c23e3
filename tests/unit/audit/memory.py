"""The stores of the audit log in memory, with faults on order, and the naive tree as oracle."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Literal

from services.audit import merkle
from services.audit.checkpoint import Checkpoint, NoteSigner, open_checkpoint
from services.audit.ports import CheckpointMoved, TileConflict
from services.audit.proof import TreeProver, check_consistency
from services.audit.reader import StoredTree
from services.audit.tiles import hash_tile_path

Apply = Literal["none", "part", "all"]
Operation = Literal["replace_state", "write", "replace_checkpoint", "drop_partials"]


class Crash(Exception):
    """The storage failed, or the process died; the caller cannot tell how far it got."""


def naive_root(leaves: list[bytes]) -> bytes:
    """RFC 6962 §2.1, word for word."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return sha256(b"\x00" + leaves[0]).digest()
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return sha256(b"\x01" + naive_root(leaves[:k]) + naive_root(leaves[k:])).digest()


@dataclass
class MemoryStore:
    """TileStore and StateStore. `fault` is asked before each change: None is no fault, otherwise
    the change is applied that far and Crash is raised."""

    files: dict[str, bytes] = field(default_factory=dict)
    state: bytes | None = None
    checkpoint: bytes | None = None
    published: list[bytes] = field(default_factory=list)
    fault: Callable[[Operation], Apply | None] = lambda operation: None

    def read(self, path: str) -> bytes | None:
        return self.files.get(path)

    def read_checkpoint(self) -> bytes | None:
        return self.checkpoint

    def read_state(self) -> bytes | None:
        return self.state

    def write(self, files: Mapping[str, bytes]) -> None:
        apply = self.fault("write")
        for number, (path, content) in enumerate(files.items()):
            if self.files.get(path, content) != content:
                raise TileConflict(path)
            if apply is None or apply == "all" or (apply == "part" and number % 2):
                self.files[path] = content
        self._raise(apply)

    def replace_checkpoint(self, expected: bytes | None, new: bytes) -> None:
        if self.checkpoint != expected:
            raise CheckpointMoved("moved")
        apply = self.fault("replace_checkpoint")
        if apply in (None, "all"):
            self.checkpoint = new
            self.published.append(new)
        self._raise(apply)

    def replace_state(self, new: bytes) -> None:
        apply = self.fault("replace_state")
        if apply in (None, "all"):
            self.state = new
        self._raise(apply)

    def drop_partials(self, folders: Iterable[str]) -> None:
        apply = self.fault("drop_partials")
        for folder in folders if apply in (None, "all") else ():
            for path in [path for path in self.files if path.startswith(folder + "/")]:
                del self.files[path]
        self._raise(apply)

    @staticmethod
    def _raise(apply: Apply | None) -> None:
        if apply is not None:
            raise Crash(apply)


def check_log(store: MemoryStore, signer: NoteSigner) -> list[bytes]:
    """The entries of the published log, after everything that can be checked has been: each tile,
    the root, and that every checkpoint ever published is a prefix of the last."""
    assert store.checkpoint is not None
    checkpoint = _open(store.checkpoint, signer)
    tree = StoredTree(store, checkpoint.size)
    entries = [entry for _, part in tree.entries(0, checkpoint.size) for entry in part]
    assert len(entries) == checkpoint.size
    assert naive_root(entries) == checkpoint.root
    edge = merkle.TreeEdge()
    tiles = edge.extend(merkle.leaf_hashes(entries)) + edge.partials()
    expected = {(tile.level, tile.index, tile.width): tile.hashes for tile in tiles}
    assert set(merkle.tiles_of(checkpoint.size)) == set(expected)
    for key, hashes in expected.items():
        assert store.files[hash_tile_path(*key)] == hashes
    for note in store.published:
        old = _open(note, signer)
        proof = TreeProver(checkpoint.size, tree.hashes).consistency(old.size)
        check_consistency(old.size, old.root, checkpoint.size, checkpoint.root, proof)
    return entries


def _open(note: bytes, signer: NoteSigner) -> Checkpoint:
    return open_checkpoint(note, [signer.verifier], signer.name)
