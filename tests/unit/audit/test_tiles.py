"""Paths and bundles are those of C2SP tlog-tiles, and read back as what they were."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.audit import tiles
from services.audit.tiles import BadBundle, EntryTooLong, TilePath


@pytest.mark.parametrize(
    ("path", "tile"),
    [
        ("tile/0/000", TilePath(0, 0)),
        ("tile/0/x001/x234/067", TilePath(0, 1234067)),
        ("tile/entries/x001/000.p/255", TilePath(None, 1000, 255)),
        ("tile/2/000.p/1", TilePath(2, 0, 1)),
        ("tile/0/273.p/112", TilePath(0, 273, 112)),
    ],
)
def test_examples(path: str, tile: TilePath) -> None:
    assert str(tile) == path
    assert tiles.parse_path(path) == tile


@given(
    st.one_of(st.none(), st.integers(0, tiles.MAX_LEVEL)),
    st.integers(0, 2**55),
    st.integers(1, 256),
)
def test_paths_read_back(level: int | None, index: int, width: int) -> None:
    tile = TilePath(level, index, width)
    assert tiles.parse_path(str(tile)) == tile
    assert str(tile.full) == str(tile).partition(".p/")[0]
    if width < 256:
        assert str(tile).startswith(tiles.partials_folder(tile) + "/")


@pytest.mark.parametrize(
    "path",
    [
        "",
        "tile/0/0",
        "tile/8/000",
        "tile/00/000",
        "tile/0/x000/001",
        "tile/0/001/002",
        "tile/0/x001",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/0/000\n",
        "tile/0/٠٠٠",
        "tile/8/0/000",
        "checkpoint",
        "tile/entries/../0/000",
    ],
)
def test_other_names_are_none(path: str) -> None:
    assert tiles.parse_path(path) is None


def test_negative_index() -> None:
    with pytest.raises(ValueError, match="negative"):
        tiles.hash_tile_path(0, -1)


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_bundles_read_back(entries: list[bytes]) -> None:
    bundle = tiles.pack_bundle(entries)
    assert tiles.unpack_bundle(bundle) == entries
    for width in range(len(entries) + 1):
        assert tiles.bundle_prefix(bundle, width) == tiles.pack_bundle(entries[:width])
    with pytest.raises(BadBundle):
        tiles.bundle_prefix(bundle, len(entries) + 1)


@given(st.lists(st.binary(min_size=1, max_size=9), min_size=1, max_size=5), st.data())
def test_a_bundle_cut_inside_its_last_entry_is_refused(
    entries: list[bytes], data: st.DataObject
) -> None:
    bundle = tiles.pack_bundle(entries)
    cut = data.draw(st.integers(1, len(entries[-1]) + 1))
    with pytest.raises(BadBundle):
        tiles.unpack_bundle(bundle[:-cut])
    with pytest.raises(BadBundle):
        tiles.bundle_prefix(bundle[:-cut], len(entries))


def test_the_longest_entry() -> None:
    longest = bytes(tiles.MAX_ENTRY)
    assert tiles.unpack_bundle(tiles.pack_bundle([longest])) == [longest]
    assert tiles.pack_bundle([b"ab"]) == b"\x00\x02ab"
    with pytest.raises(EntryTooLong):
        tiles.pack_bundle([longest + b"x"])
