"""Frames: whatever happened to the bytes, what was written whole comes back and nothing else."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from services.router.segments import (
    HEADER,
    Item,
    Read,
    Segment,
    frame,
    list_segments,
    lock_path,
    read,
    segment_path,
    total_bytes,
)

ITEMS = st.lists(
    st.builds(
        Item, st.integers(0, 2**60), st.integers(0, 2**60), st.integers(0, 2),
        st.binary(max_size=20), st.binary(max_size=60),
    ),
    max_size=6,
)  # fmt: skip


def written(items: list[Item]) -> bytes:
    return b"".join(frame(*item) for item in items)


@given(ITEMS, st.booleans())
def test_reads_what_was_written(items: list[Item], closed: bool) -> None:
    data = written(items)
    assert read(data, 7, closed=closed) == read(data, 7, closed=closed)
    got = read(data, 7, closed=closed)
    assert (got.items, got.next, got.damaged) == (items, 7 + len(data), 0)


@given(ITEMS.filter(bool), st.data())
def test_a_torn_tail_is_no_item(items: list[Item], data: st.DataObject) -> None:
    whole, last = written(items[:-1]), frame(*items[-1])
    cut = data.draw(st.integers(0, len(last) - 1))
    for closed in (True, False):
        got = read(whole + last[:cut], 0, closed=closed)
        assert (got.items, got.next, got.damaged) == (items[:-1], len(whole), 0)


@given(ITEMS.filter(bool), st.data())
def test_a_flipped_bit_costs_one_item(items: list[Item], data: st.DataObject) -> None:
    bad = data.draw(st.integers(0, len(items) - 1))
    before, hit = len(written(items[:bad])), len(frame(*items[bad]))
    bit = data.draw(st.integers(0, 8 * hit - 1))
    octets = bytearray(written(items))
    octets[before + bit // 8] ^= 1 << bit % 8
    got = read(bytes(octets), 0, closed=True)
    assert got.items == items[:bad] + items[bad + 1 :]
    assert got.damaged == (hit if bad < len(items) - 1 else 0)
    assert read(bytes(octets), 0, closed=False).items == items[:bad]


@given(st.binary(max_size=300), st.booleans())
def test_any_octets_end(data: bytes, closed: bool) -> None:
    assert 0 <= read(data, 0, closed=closed).next <= len(data)


def test_names(tmp_path: Path) -> None:
    for journal, number in (("r1-0-aa", 2), ("r1-0-aa", 1), ("r1-1-bb", 1)):
        segment_path(tmp_path, journal, number).write_bytes(b"xx")
    lock_path(tmp_path, "r1-0-aa").touch()
    (tmp_path / "odd.seg").touch()
    found = list_segments(tmp_path)
    assert [(s.journal, s.number) for s in found] == [
        ("r1-0-aa", 1), ("r1-0-aa", 2), ("r1-1-bb", 1),
    ]  # fmt: skip
    assert total_bytes(s.path for s in [*found, Segment("x", 1, tmp_path / "gone")]) == 6


@given(ITEMS, st.binary(max_size=9), st.booleans())
def test_a_segment_begins_with_its_format(items: list[Item], rest: bytes, closed: bool) -> None:
    data = HEADER + written(items)
    got = read(data, 0, closed=closed)
    assert (got.items, got.next, got.damaged, got.foreign) == (items, len(data), 0, False)
    other = read(HEADER[:-1] + b"\x03" + rest + written(items), 0, closed=closed)
    assert other == Read([], 0, 0, foreign=True)
    before = read(HEADER[:-1] + b"\x01" + written(items), 0, closed=closed)
    assert (before.items, before.foreign) == (items, False)
    torn = read(HEADER[:2], 0, closed=False)
    assert (torn.next, torn.foreign) == (0, False)
