"""Proofs from tiles convince the RFC 9162 checks, and nothing altered does."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.audit import merkle, proof
from services.audit.proof import BadProof, TreeProver
from tests.unit.audit.memory import naive_root

SIZE = 66_000
LEAVES = [number.to_bytes(4, "big") for number in range(SIZE)]
_edge = merkle.TreeEdge()
TILES = {
    (tile.level, tile.index): tile.hashes
    for tile in _edge.extend(merkle.leaf_hashes(LEAVES)) + _edge.partials()
}


def prover(size: int) -> TreeProver:
    """Over the tiles of the large tree, which hold every smaller one."""

    def read(level: int, index: int, width: int) -> bytes:
        assert 0 < width <= merkle.TILE_WIDTH
        hashes = TILES[level, index]
        assert len(hashes) >= width * 32
        return hashes[: width * 32]

    return TreeProver(size, read)


def naive_path(index: int, leaves: list[bytes]) -> list[bytes]:
    """RFC 6962 §2.1.1."""
    if len(leaves) == 1:
        return []
    k = proof.split(len(leaves))
    if index < k:
        return [*naive_path(index, leaves[:k]), naive_root(leaves[k:])]
    return [*naive_path(index - k, leaves[k:]), naive_root(leaves[:k])]


def naive_subproof(m: int, leaves: list[bytes], whole: bool) -> list[bytes]:
    """RFC 6962 §2.1.2."""
    if m == len(leaves):
        return [] if whole else [naive_root(leaves)]
    k = proof.split(len(leaves))
    if m <= k:
        return [*naive_subproof(m, leaves[:k], whole), naive_root(leaves[k:])]
    return [*naive_subproof(m - k, leaves[k:], False), naive_root(leaves[:k])]


@pytest.mark.parametrize("size", range(1, 71))
def test_every_proof_of_small_trees(size: int) -> None:
    root = naive_root(LEAVES[:size])
    assert prover(size).root() == root
    for index in range(size):
        path = prover(size).inclusion(index)
        assert path == naive_path(index, LEAVES[:size])
        proof.check_inclusion(merkle.leaf_hash(LEAVES[index]), index, size, path, root)
    for old in range(size + 1):
        path = prover(size).consistency(old)
        assert path == (naive_subproof(old, LEAVES[:size], True) if old else [])
        proof.check_consistency(old, naive_root(LEAVES[:old]), size, root, path)


@settings(deadline=None)
@given(st.data())
def test_random_proofs_of_larger_trees(data: st.DataObject) -> None:
    size = data.draw(st.integers(71, SIZE))
    index = data.draw(st.integers(0, size - 1))
    old = data.draw(st.integers(0, size))
    whole = prover(size)
    root = whole.root()
    leaf = merkle.leaf_hash(LEAVES[index])
    proof.check_inclusion(leaf, index, size, whole.inclusion(index), root)
    proof.check_consistency(old, whole.root(old), size, root, whole.consistency(old))


def test_large_root_is_the_naive_one() -> None:
    assert prover(SIZE).root() == naive_root(LEAVES)
    assert prover(SIZE).root(1000) == naive_root(LEAVES[:1000])


@settings(deadline=None)
@given(st.data())
def test_an_altered_inclusion_proof_is_refused(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 600))
    index = data.draw(st.integers(0, size - 1))
    path = prover(size).inclusion(index)
    root, leaf = prover(size).root(), merkle.leaf_hash(LEAVES[index])
    change = data.draw(st.sampled_from(["leaf", "root", "index", "longer", "shorter", "bit"]))
    if change == "leaf":
        leaf = merkle.leaf_hash(b"other")
    elif change == "root":
        root = merkle.leaf_hash(b"other")
    elif change == "index":
        index = data.draw(st.integers(-1, size + 1).filter(lambda other: other != index))
    elif change == "longer":
        path = [*path, root]
    elif not path:
        return
    elif change == "shorter":
        path = path[:-1]
    else:
        at = data.draw(st.integers(0, len(path) - 1))
        path[at] = bytes([path[at][0] ^ 1]) + path[at][1:]
    with pytest.raises(BadProof):
        proof.check_inclusion(leaf, index, size, path, root)


@settings(deadline=None)
@given(st.data())
def test_an_altered_consistency_proof_is_refused(data: st.DataObject) -> None:
    size = data.draw(st.integers(2, 600))
    old = data.draw(st.integers(1, size))
    path = prover(size).consistency(old)
    old_root, root = prover(size).root(old), prover(size).root()
    change = data.draw(st.sampled_from(["old_root", "root", "longer", "shorter", "bit"]))
    if change == "old_root":
        old_root = merkle.leaf_hash(b"other")
    elif change == "root":
        root = merkle.leaf_hash(b"other")
    elif change == "longer":
        path = [*path, root]
    elif not path:
        return
    elif change == "shorter":
        path = path[:-1]
    else:
        at = data.draw(st.integers(0, len(path) - 1))
        path[at] = bytes([path[at][0] ^ 1]) + path[at][1:]
    with pytest.raises(BadProof):
        proof.check_consistency(old, old_root, size, root, path)


def test_what_lies_outside_is_refused() -> None:
    with pytest.raises(ValueError, match="outside"):
        prover(5).inclusion(5)
    with pytest.raises(ValueError, match="outside"):
        prover(5).consistency(6)
    with pytest.raises(ValueError, match="outside"):
        prover(5).root(6)
    with pytest.raises(BadProof):
        proof.check_consistency(6, b"", 5, b"", [])
    with pytest.raises(BadProof):
        proof.check_consistency(0, merkle.leaf_hash(b""), 5, b"", [])
