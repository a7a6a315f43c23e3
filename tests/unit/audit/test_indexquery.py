"""The SQL of a filter: which index leads, and what a time range reads."""

import sqlite3
from pathlib import Path

import pytest

from services.audit.domain import Filter, IndexRow
from services.audit.index import SqliteIndex
from services.audit.indexquery import select


@pytest.mark.parametrize(
    ("wanted", "used"),
    [
        (Filter(tenant="t", binding="b", type="x", number="7"), "by_binding"),
        (Filter(tenant="t", order_tag=b"o", binding="b"), "by_order"),
        (Filter(tenant="t", number="7"), "PRIMARY KEY (number=?"),
        (Filter(tenant="t", party=b"p", number="7"), "PRIMARY KEY (tag=?"),
        (Filter(call="c/1", binding="b", party=b"p"), "by_call"),
        (Filter(tenant="t", type="x", start_ms=1), "by_type"),
        (Filter(tenant="t"), "by_tenant"),
        (Filter(start_ms=1), "INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
    ],
)
def test_every_query_walks_an_index_in_leaf_order(
    tmp_path: Path, wanted: Filter, used: str
) -> None:
    index = SqliteIndex(tmp_path / "i")
    text, values = select(wanted)
    connection = sqlite3.connect(tmp_path / "i")
    steps = connection.execute(f"EXPLAIN QUERY PLAN {text}", [*values, 0, 10, 10]).fetchall()
    plan = " / ".join(step[3] for step in steps)
    connection.close()
    index.close()
    assert used in plan
    assert "TEMP B-TREE" not in plan


def test_a_time_range_reads_no_more_than_its_spans(tmp_path: Path) -> None:
    index = SqliteIndex(tmp_path / "i")
    index.add([IndexRow(leaf, f"e{leaf}", "t", leaf) for leaf in range(5000)])
    assert index.query(Filter(start_ms=2100, end_ms=2103), 0, 5000, 10) == [2100, 2101, 2102]
    assert index.query(Filter(start_ms=9000), 0, 5000, 10) == []
    assert index.query(Filter(end_ms=0), 0, 5000, 10) == []
    index.close()
