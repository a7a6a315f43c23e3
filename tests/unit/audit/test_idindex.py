"""An id finds its first leaf, before and after it reached the disk."""

from pathlib import Path

import pytest

from services.audit.idindex import IdIndex

IDS = [b"a", b"b", b"#starts like a digest", b"x" * 65, b"y" * 5000, b""]


@pytest.mark.parametrize("flush_every", [1, 4, 1000])
def test_found_in_memory_and_on_disk(tmp_path: Path, flush_every: int) -> None:
    index = IdIndex(tmp_path / "ids", flush_every)
    assert index.find(IDS) == [None] * 6
    index.add(0, IDS[:3])
    index.add(3, IDS[3:])
    assert (index.size, index.find([*IDS, b"c"])) == (6, [0, 1, 2, 3, 4, 5, None])
    index.close()
    index = IdIndex(tmp_path / "ids", flush_every)
    assert (index.size, index.find(IDS)) == (6, [0, 1, 2, 3, 4, 5])
    index.close()


@pytest.mark.parametrize("flush_every", [1, 2, 1000])
def test_a_repeated_id_keeps_its_first_leaf(tmp_path: Path, flush_every: int) -> None:
    index = IdIndex(tmp_path, flush_every)
    for leaf, event_id in enumerate([b"a", b"b", b"a", b"a"]):
        index.add(leaf, [event_id])
    assert index.find([b"a", b"b"]) == [0, 1]
    index.flush()
    assert index.find([b"a", b"b"]) == [0, 1]
    index.close()


def test_a_crash_takes_only_the_end(tmp_path: Path) -> None:
    index = IdIndex(tmp_path, 3)
    index.add(0, [b"a", b"b", b"c"])
    index.add(3, [b"d"])
    index._env.close()  # a process that died does not flush
    index = IdIndex(tmp_path)
    assert (index.size, index.find([b"a", b"c", b"d"])) == (3, [0, 2, None])
    with pytest.raises(ValueError, match="next leaf"):
        index.add(4, [b"e"])
    index.close()
