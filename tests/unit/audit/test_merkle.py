"""Trees built in any batches equal the RFC 6962 definition, and tiles never change."""

from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.audit import merkle
from tests.unit.audit.memory import naive_root


def leaves(count: int) -> list[bytes]:
    return [number.to_bytes(4, "big") for number in range(count)]


def test_hashes_are_those_of_the_rfc() -> None:
    assert merkle.EMPTY_ROOT.hex() == (
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    )
    # The first leaf of the Certificate Transparency test vectors is the empty entry.
    assert merkle.leaf_hash(b"").hex() == (
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    )
    left, right = sha256(b"l").digest(), sha256(b"r").digest()
    assert merkle.node_hash(left, right) == sha256(b"\x01" + left + right).digest()


def test_known_tree_of_eight_leaves() -> None:
    """The reference vectors that Certificate Transparency implementations share."""
    entries = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657"]
    entries.append("606162636465666768696a6b6c6d6e6f")
    edge = merkle.TreeEdge()
    edge.extend(merkle.leaf_hashes(bytes.fromhex(entry) for entry in entries))
    assert edge.root().hex() == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"


@pytest.mark.parametrize("size", [*range(71), 255, 256, 257, 511, 512, 513])
def test_root_is_the_naive_one(size: int) -> None:
    edge = merkle.TreeEdge()
    edge.extend(merkle.leaf_hashes(leaves(size)))
    assert edge.size == size
    assert edge.root() == naive_root(leaves(size))


@settings(deadline=None)
@given(st.lists(st.integers(0, 700), max_size=6))
def test_batches_do_not_matter(batches: list[int]) -> None:
    size = sum(batches)
    hashes = merkle.leaf_hashes(leaves(size))
    edge, found, at = merkle.TreeEdge(), list[merkle.HashTile](), 0
    for batch in batches:
        found += edge.extend(hashes[at * 32 : (at + batch) * 32])
        at += batch
    whole = merkle.TreeEdge()
    assert sorted(found, key=lambda tile: (tile.level, tile.index)) == whole.extend(hashes)
    assert edge.partials() == whole.partials()
    assert edge.root() == whole.root() == naive_root(leaves(size))


def test_three_levels_and_reload() -> None:
    """70,000 leaves: the example in the tlog-tiles text, as far as widths go."""
    size = 70_000
    edge = merkle.TreeEdge()
    tiles = edge.extend(merkle.leaf_hashes(leaves(size))) + edge.partials()
    stored = {(tile.level, tile.index): tile.hashes for tile in tiles}
    assert {key: len(hashes) // 32 for key, hashes in stored.items() if key[0]} == {
        (1, 0): 256,
        (1, 1): 17,
        (2, 0): 1,
    }
    assert len(stored[0, 273]) == 112 * 32
    assert sorted(merkle.tiles_of(size)) == sorted((t.level, t.index, t.width) for t in tiles)
    again = merkle.TreeEdge.load(size, lambda level, index, width: stored[level, index])
    assert again.root() == edge.root() == naive_root(leaves(size))
    again.extend(merkle.leaf_hashes([b"next"]))
    assert again.root() == naive_root([*leaves(size), b"next"])
    assert edge.copy().root() == edge.root()
