"""The permutation is a bijection, keyed, and shows no stride; the choice of blocks is no order."""

import random
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.allocator.pool import Permutation, Walk, scopes

KEYS = st.binary(min_size=32, max_size=32)
BLOCKS = st.from_regex(r"700[0-9]{8}", fullmatch=True)
KEY = bytes(range(32))
BLOCK = "70010000001"


@given(KEYS, BLOCKS)
@settings(max_examples=15, deadline=None)
def test_every_number_of_the_block_comes_once(key: bytes, block: str) -> None:
    numbers = Permutation(key, block).numbers(0, 10_000)
    assert sorted(numbers) == [f"{block}{serial:04d}" for serial in range(10_000)]


@given(KEYS, KEYS, BLOCKS, BLOCKS)
@settings(max_examples=30, deadline=None)
def test_key_and_block_decide_the_order(one: bytes, two: bytes, first: str, second: str) -> None:
    def serials(key: bytes, block: str) -> list[str]:
        return [number[11:] for number in Permutation(key, block).numbers(0, 40)]

    assert (serials(one, first) == serials(two, first)) == (one == two)
    assert (serials(one, first) == serials(one, second)) == (first == second)


def test_the_order_of_one_key_never_changes() -> None:
    """Cursors in Kafka are counted in it: other values here mean that numbers are given twice."""
    serials = [number[11:] for number in Permutation(KEY, BLOCK).numbers(0, 6)]
    assert serials == ["6235", "0442", "1579", "5964", "1825", "8552"]


def test_no_stride() -> None:
    serials = [int(number[11:]) for number in Permutation(KEY, BLOCK).numbers(0, 10_000)]
    steps = Counter((b - a) % 10_000 for a, b in pairwise(serials))
    assert steps.most_common(1)[0][1] <= 10  # 10,000 steps over 10,000 values: the mean is 1
    halves = Counter(serial // 100 for serial in serials[:1000])
    assert max(halves.values()) < 35  # of 10 expected


def test_indexes_beyond_the_block() -> None:
    permutation = Permutation(KEY, BLOCK)
    assert permutation.numbers(9_998, 10) == [permutation.number(9_998), permutation.number(9_999)]
    assert permutation.numbers(10_000, 5) == []
    for index in (-1, 10_000):
        with pytest.raises(ValueError, match="index"):
            permutation.number(index)
    assert "0001" in repr(permutation)


MADE = {f"7001000000{n}": Permutation(KEY, f"7001000000{n}") for n in range(4)}


def test_windows_take_blocks_until_there_is_enough() -> None:
    walk = Walk([("70010000001", 9_998, ""), ("70010000002", 10_000, ""), ("70010000003", 0, "")])
    found = walk.windows({"": 5}, MADE.__getitem__, lambda n: 0)
    assert [(w.block, w.start, len(w.numbers)) for w in found] == [
        ("70010000001", 9_998, 2),
        ("70010000003", 0, 3),
    ]
    walk.moved("70010000001", 10_000)
    walk.moved("70010000003", 9_999)
    assert [w.block for w in walk.windows({"": 5}, MADE.__getitem__, lambda n: 0)] == [
        "70010000003"
    ]
    assert Walk([("70010000002", 10_000, "")]).windows({"": 5}, MADE.__getitem__, lambda n: 0) == []


def test_a_block_is_offered_once_for_all_its_areas() -> None:
    walk = Walk(
        [("70010000001", 0, "440300"), ("70010000002", 0, "440100"), ("70010000003", 0, "")]
    )
    below = random.Random(3).randrange
    for area, expected in {
        "440300": {"70010000001"},
        "440000": {"70010000001", "70010000002"},
        "110000": set(),
    }.items():
        found = walk.windows({area: 20_000}, MADE.__getitem__, below)
        assert {window.block for window in found} == expected
    both = walk.windows({"440300": 2, "440000": 2}, MADE.__getitem__, lambda n: 0)
    assert [window.block for window in both].count("70010000001") == 1


def test_an_area_lies_in_its_province() -> None:
    assert scopes("") == ("",)
    assert scopes("440000") == ("", "440000")
    assert scopes("440300") == ("", "440000", "440300")


def test_blocks_are_chosen_evenly() -> None:
    walk = Walk([(block, 0, "") for block in MADE])
    below = random.Random(7).randrange
    chosen = Counter(walk.windows({"": 1}, MADE.__getitem__, below)[0].block for _ in range(400))
    assert set(chosen) == set(MADE)
    assert max(chosen.values()) < 140
