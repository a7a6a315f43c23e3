from collections import Counter

from services.runtime.choice import chosen

TAGS = [number.to_bytes(16) for number in range(3000)]


def test_parties_spread_evenly_whatever_the_order_of_cells() -> None:
    counts = Counter(chosen(["c0", "c1", "c2"], tag) for tag in TAGS)
    assert min(counts.values()) > 900
    assert all(chosen(["c2", "c0", "c1"], tag) == chosen(["c0", "c1", "c2"], tag) for tag in TAGS)
    assert chosen(["c7"], TAGS[0]) == "c7"


def test_a_new_cell_takes_its_share_and_moves_nobody_else() -> None:
    before = {tag: chosen(["c0", "c1"], tag) for tag in TAGS}
    after = {tag: chosen(["c0", "c1", "c2"], tag) for tag in TAGS}
    assert all(after[tag] in ("c2", before[tag]) for tag in TAGS)
    assert 900 < list(after.values()).count("c2") < 1100
