"""A file that changes, and one that breaks."""

from pathlib import Path

import pytest

from services.router.directoryfile import DirectoryFile
from tests.unit.router.platforms import TEXT


def put(path: Path, text: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


def test_a_changed_file_is_taken_over_and_a_broken_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "directory.json"
    with pytest.raises(OSError, match=r"directory\.json"):
        DirectoryFile(path)
    put(path, TEXT)
    directory = DirectoryFile(path)
    assert directory.own().id == "own"
    put(path, TEXT.replace("70088888888", "70077777777"))
    directory.refresh()
    assert directory.holder("700888888880001") is None
    holder = directory.holder("700777777770001")
    assert holder is not None
    put(path, "{")
    directory.refresh()
    assert directory.holder("700777777770001") == holder
    path.unlink()
    directory.refresh()
    assert directory.holder("700777777770001") == holder
    put(path, TEXT)
    directory.refresh()
    assert directory.holder("700777777770001") is None
