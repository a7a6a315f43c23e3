"""A small file is replaced whole, wherever its temporary copy stands."""

import stat
from pathlib import Path

import pytest

from services.runtime.wholefile import replace_file


def test_old_or_new_and_nothing_beside(tmp_path: Path) -> None:
    target = tmp_path / "file"
    replace_file(target, b"one", mode=0o600)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    (tmp_path / "file.new").write_bytes(b"what a killed process left, and longer")
    replace_file(target, b"two")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"two")]


def test_a_failure_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "file"
    replace_file(target, b"one")
    with pytest.raises(FileNotFoundError):
        replace_file(target, b"two", staging=tmp_path / "missing/new")
    assert target.read_bytes() == b"one"
