"""A stored tree answers at its size, also from tiles that have grown since."""

import pytest

from services.audit.merkle import leaf_hash
from services.audit.proof import check_inclusion
from services.audit.reader import StoredTree, TileMissing
from services.audit.tiles import BadBundle
from tests.unit.audit.memory import MemoryStore
from tests.unit.audit.test_log import entries, grown, open_log


@pytest.mark.parametrize("size", [1, 100, 255, 256, 300, 511])
def test_an_older_size_is_read_from_grown_tiles(size: int) -> None:
    store = grown(size)
    old = open_log(store).checkpoint
    open_log(store).append(entries(size, 600), b"600")
    tree = StoredTree(store, size)
    assert [e for _, part in tree.entries(0, size) for e in part] == entries(0, size)
    assert tree.prover().root() == old.root
    for index in range(0, size, 50):
        path = tree.prover().inclusion(index)
        check_inclusion(leaf_hash(tree.entry(index)), index, size, path, old.root)


def test_ranges_start_and_end_anywhere() -> None:
    tree = open_log(grown(600)).tree
    assert list(tree.entries(250, 520)) == [
        (250, entries(250, 256)),
        (256, entries(256, 512)),
        (512, entries(512, 520)),
    ]
    assert sum(len(part) for _, part in tree.entries(255, 255)) == 0
    assert list(tree.entries(300, 301)) == [(300, entries(300, 301))]
    with pytest.raises(IndexError):
        tree.entry(600)


def test_missing_and_short_tiles() -> None:
    with pytest.raises(TileMissing):
        StoredTree(MemoryStore(), 1).entry(0)
    with pytest.raises(TileMissing):
        StoredTree(MemoryStore({"tile/0/000.p/1": b"short"}), 1).prover().root()
    with pytest.raises(BadBundle):
        StoredTree(MemoryStore({"tile/entries/000.p/2": b"\0\0"}), 2).entry(0)
