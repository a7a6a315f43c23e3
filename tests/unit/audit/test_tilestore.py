"""The folder store keeps the promises of ports.TileStore and ports.StateStore."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.audit.ports import CheckpointMoved, LogLocked, TileConflict
from services.audit.tilestore import FolderReader, FolderStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FolderStore]:
    store = FolderStore(tmp_path / "log", tmp_path / "private")
    yield store
    store.close()


def test_files_read_back(store: FolderStore, tmp_path: Path) -> None:
    files = {"tile/0/000": b"x" * 8192, "tile/entries/x001/000": b"", "tile/0/001.p/3": b"y"}
    assert store.read("tile/0/000") is None
    store.write(files)
    store.write({})
    reader = FolderReader(tmp_path / "log")
    for path, content in files.items():
        assert store.read(path) == reader.read(path) == content
    assert store.read("tile/0/000/nothing") is None
    assert stat.S_IMODE((tmp_path / "log/tile/0/000").stat().st_mode) & 0o444 == 0o444


def test_tiles_never_change(store: FolderStore) -> None:
    store.write({"tile/0/000": b"one"})
    store.write({"tile/0/000": b"one", "tile/0/001": b"two"})
    with pytest.raises(TileConflict, match="tile/0/000"):
        store.write({"tile/0/002": b"new", "tile/0/000": b"other"})
    assert store.read("tile/0/000") == b"one"


def test_checkpoint_is_compared_and_swapped(store: FolderStore) -> None:
    with pytest.raises(CheckpointMoved):
        store.replace_checkpoint(b"old", b"new")
    store.replace_checkpoint(None, b"one")
    with pytest.raises(CheckpointMoved):
        store.replace_checkpoint(None, b"two")
    store.replace_checkpoint(b"one", b"two")
    assert store.read_checkpoint() == b"two"


def test_state_is_private(store: FolderStore, tmp_path: Path) -> None:
    assert store.read_state() is None
    store.replace_state(b"one")
    store.replace_state(b"two")
    store.write_private("key", b"secret")
    assert store.read_state() == b"two"
    assert store.read_private("key") == b"secret"
    assert stat.S_IMODE((tmp_path / "private").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "private/key").stat().st_mode) == 0o600
    assert os.listdir(tmp_path / "log") == []


def test_partials_are_dropped_and_may_come_back(store: FolderStore, tmp_path: Path) -> None:
    store.write({"tile/0/000.p/3": b"x", "tile/0/000.p/4": b"y"})
    store.drop_partials(["tile/0/000.p", "tile/0/001.p"])
    assert os.listdir(tmp_path / "log/tile/0") == []
    store.write({"tile/0/000.p/3": b"x"})
    assert store.read("tile/0/000.p/3") == b"x"


def test_one_writer(store: FolderStore, tmp_path: Path) -> None:
    with pytest.raises(LogLocked, match="lock"):
        FolderStore(tmp_path / "log", tmp_path / "private")
    # A copy of the private folder has a lock of its own; the served folder is the one to guard.
    with pytest.raises(LogLocked, match="log"):
        FolderStore(tmp_path / "log", tmp_path / "copy")
    store.close()
    FolderStore(tmp_path / "log", tmp_path / "private").close()
    with pytest.raises(ValueError, match="closed"):
        store.replace_state(b"late")


def test_leftovers_of_a_killed_writer_are_swept(store: FolderStore, tmp_path: Path) -> None:
    store.close()
    (tmp_path / "private/staging/7").write_bytes(b"half")
    store = FolderStore(tmp_path / "log", tmp_path / "private")
    assert os.listdir(tmp_path / "private/staging") == []
    store.close()


def test_everything_is_synced_before_it_gets_its_name(
    store: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """File before rename, folder after it, each new folder in its parent."""
    trace: list[str] = []
    real_sync, real_rename = os.fsync, os.rename

    def fsync(descriptor: int) -> None:
        trace.append(
            "sync " + os.path.relpath(os.readlink(f"/proc/self/fd/{descriptor}"), tmp_path)
        )
        real_sync(descriptor)

    def rename(source: str, target: str) -> None:
        trace.append("name " + os.path.relpath(target, tmp_path))
        real_rename(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", rename)
    store.write({"tile/0/000.p/1": b"a", "tile/entries/000.p/1": b"b"})
    assert set(trace[:2]) == {"sync private/staging/0", "sync private/staging/1"}
    assert trace[2:4] == ["name log/tile/0/000.p/1", "name log/tile/entries/000.p/1"]
    folders = ["", "/tile", "/tile/0", "/tile/0/000.p", "/tile/entries", "/tile/entries/000.p"]
    assert sorted(trace[4:]) == [f"sync log{folder}" for folder in folders]
    trace.clear()
    store.write({"tile/0/000.p/2": b"a"})
    assert trace == ["sync private/staging/0", "name log/tile/0/000.p/2", "sync log/tile/0/000.p"]
    trace.clear()
    store.write({"tile/0/000.p/2": b"a"})
    assert trace == ["sync log/tile/0/000.p"]
    trace.clear()
    store.replace_checkpoint(None, b"c")
    assert trace == ["sync private/staging/0", "name log/checkpoint", "sync log"]
    trace.clear()
    store.replace_state(b"s")
    assert trace == ["sync private/staging/0", "name private/tree-state", "sync private"]
