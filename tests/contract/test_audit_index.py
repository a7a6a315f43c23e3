"""EventIndex, one suite for the fake and for SQLite."""

import random
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from services.audit.domain import Filter, IndexRow
from services.audit.index import SqliteIndex
from services.audit.ports import EventIndex, StorageConflict
from tests.unit.audit.memory_index import MemoryIndex

TYPES = ("axbridge.binding.v1.BindingCreated", "axbridge.router.v1.CallRouted")


@pytest.fixture(params=["memory", "sqlite"])
def index(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EventIndex]:
    if request.param == "memory":
        yield MemoryIndex()
        return
    made = SqliteIndex(tmp_path / "index.sqlite")
    yield made
    made.close()


def rows(count: int, seed: int = 1) -> list[IndexRow]:
    chance = random.Random(seed)
    return [
        IndexRow(
            leaf,
            f"e{leaf}",
            chance.choice(TYPES),
            leaf * 10 + chance.randrange(-200, 200),  # events come a little out of order
            chance.choice(("", "taxi", "food")),
            chance.choice(("", "b1", "b2", "b3")),
            chance.choice(("", "c/1")),
            tuple(sorted(chance.sample(("7001", "7002", "7003"), chance.randrange(3)))),
            chance.choice((None, b"o1", b"o2")),
            tuple(sorted(chance.sample((b"p1", b"p2", b"p3"), chance.randrange(3)))),
        )
        for leaf in range(count)
    ]


def test_filters_alone_and_together(index: EventIndex) -> None:
    expected = MemoryIndex()
    chance = random.Random(2)
    for part in (rows(3000)[:700], rows(3000)[700:]):
        index.add(part)
        expected.add(part)
    assert index.size == 3000
    for _ in range(300):
        wanted = Filter(
            chance.choice(("", "", "taxi", "nobody")),
            chance.choice(("", "", "b1", "none")),
            chance.choice((None, None, b"o1", b"none")),
            chance.choice(("", "", "7001", "none")),
            chance.choice(("", "", *TYPES, "none")),
            chance.choice((None, chance.randrange(-300, 31_000))),
            chance.choice((None, chance.randrange(-300, 31_000))),
            chance.choice(("", "", "c/1", "none")),
            chance.choice((None, None, b"p1", b"none")),
        )
        first, below = chance.randrange(3000), chance.randrange(3100)
        limit = chance.choice((1, 7, 5000))
        found = index.query(wanted, first, below, limit)
        assert found == expected.query(wanted, first, below, limit), wanted


def test_the_tags_of_a_bucket_go_with_it(index: EventIndex) -> None:
    july, august = "purge/taxi/202607", "purge/taxi/202608"
    index.add([
        IndexRow(0, "e0", "t", 1, "taxi", order_tag=b"o", parties=(b"p", b"q"), bucket=july),
        IndexRow(1, "e1", "t", 1, "taxi", order_tag=b"o", parties=(b"p",), bucket=august),
    ])  # fmt: skip
    wanted, of_party = Filter(tenant="taxi", order_tag=b"o"), Filter(tenant="taxi", party=b"p")
    assert index.query(wanted, 0, 9, 9) == index.query(of_party, 0, 9, 9) == [0, 1]
    assert [index.parties(leaf) for leaf in (0, 1)] == [{b"p", b"q"}, {b"p"}]
    for leaf in (2, 3):  # another cell says so as well
        index.add([IndexRow(leaf, f"e{leaf}", "t", 2, "taxi", purged=july)])
        assert index.query(wanted, 0, 9, 9) == index.query(of_party, 0, 9, 9) == [1]
        assert [index.parties(leaf) for leaf in (0, 1)] == [set(), {b"p"}]
    assert index.query(Filter(tenant="taxi"), 0, 9, 9) == [0, 1, 2, 3]


def test_who_lived_on_a_number_at_a_time(index: EventIndex) -> None:
    def row(
        leaf: int, name: str, time_ms: int, until_ms: int, ended: bool = False, number: str = "7001"
    ) -> IndexRow:
        return IndexRow(
            leaf, f"e{leaf}", "t", time_ms, "taxi", name,
            numbers=(number,), until_ms=until_ms, ended=ended,
        )  # fmt: skip

    def lived(at_ms: int, limit: int = 9) -> list[str]:
        return [term.binding for term in index.lived("7001", at_ms, limit)]

    index.add([row(0, "a", 100, 200), row(1, "b", 150, 900), row(2, "c", 150, 300, number="7002")])
    assert [lived(at) for at in (99, 100, 149, 150, 199, 200)] == [
        [], ["a"], ["a"], ["a", "b"], ["a", "b"], ["b"],
    ]  # fmt: skip
    index.add([row(3, "a", 160, 400), row(4, "a", 170, 180)])  # the events decide what was when
    assert lived(399) == ["a", "b"]
    assert lived(399, 1) == ["a"]
    index.add([row(5, "b", 500, 450, ended=True), row(6, "b", 500, 800)])  # a repeat out of order
    assert [lived(at) for at in (449, 450)] == [["b"], []]
    index.add([row(7, "b", 500, 440, ended=True)])
    assert lived(440) == []
    assert lived(99) == []
    assert index.lived("7003", 150, 9) == []


def test_finds_an_event_and_a_tenant(index: EventIndex) -> None:
    index.add([IndexRow(0, "e0", "t", 1, tenant="taxi"), IndexRow(1, "e1", "t", 1)])
    assert [index.find(name) for name in ("e0", "e1", "e2", "")] == [0, 1, None, None]
    assert [index.has_tenant(name) for name in ("taxi", "tax")] == [True, False]


def test_rows_come_without_a_gap_and_count_once(index: EventIndex) -> None:
    some = rows(10)
    index.add(some[:4])
    index.add(some[2:6])
    index.add(some[1:3])
    index.add([])
    assert index.size == 6
    with pytest.raises(ValueError, match=r"a gap|next leaf"):
        index.add(some[7:])
    assert index.size == 6
    assert index.query(Filter(), 0, 100, 100) == list(range(6))


def test_it_belongs_to_one_log(index: EventIndex) -> None:
    index.claim("key")
    index.claim("key")
    with pytest.raises(StorageConflict):
        index.claim("another")


def test_threads_read_whole_batches_while_one_writes(index: EventIndex) -> None:
    seen: list[int] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.append(len(index.query(Filter(), 0, 1 << 40, 1 << 30)))

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    some = [replace(row, numbers=()) for row in rows(2000)]
    for start in range(0, 2000, 100):
        index.add(some[start : start + 100])
    done.set()
    for reader in readers:
        reader.join()
    assert {count % 100 for count in seen} <= {0}


def test_a_file_keeps_everything(tmp_path: Path) -> None:
    first = SqliteIndex(tmp_path / "i")
    first.claim("key")
    first.add(rows(5))
    first.close()
    second = SqliteIndex(tmp_path / "i")
    try:
        assert second.size == 5
        with pytest.raises(StorageConflict):
            second.claim("another")
    finally:
        second.close()


def test_two_processes_may_feed_one_file(tmp_path: Path) -> None:
    one, two = SqliteIndex(tmp_path / "i"), SqliteIndex(tmp_path / "i")
    one.add(rows(5))
    two.add(rows(8))
    one.add(rows(9))
    assert one.query(Filter(), 0, 100, 100) == list(range(9))
    one.close()
    two.close()
