"""What is SQLite's own; the rest of the index is tests/contract/test_audit_index.py."""

import sqlite3
from pathlib import Path

import pytest

from services.audit.domain import IndexRow
from services.audit.index import SqliteIndex
from services.audit.ports import StorageConflict


def test_another_version_is_refused(tmp_path: Path) -> None:
    SqliteIndex(tmp_path / "i").close()
    connection = sqlite3.connect(tmp_path / "i")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StorageConflict):
        SqliteIndex(tmp_path / "i")


def test_a_forgotten_tag_is_not_in_the_file(tmp_path: Path) -> None:
    index = SqliteIndex(tmp_path / "i")
    tags = [bytes([n]) * 16 for n in (0xA1, 0xA2)]
    index.add(
        [IndexRow(0, "e0", "t", 1, "taxi", order_tag=tags[0], parties=(tags[1],), bucket="b")]
    )
    index.add([IndexRow(1, "e1", "t", 1, "taxi", purged="b")])
    index.close()
    files = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert [tag in files for tag in tags] == [False, False]
