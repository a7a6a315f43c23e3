"""Several processes say what one says. What is found at all is in test_verify."""

from pathlib import Path

import pytest

from services.audit.checkpoint import Checkpoint, NoteSigner, open_checkpoint
from services.audit.log import Log
from services.audit.recompute import (
    BUNDLES_PER_STEP,
    WORTH_SHARING,
    Wrong,
    check_bundles,
    check_tree,
)
from services.audit.tilestore import FolderStore

SIGNER = NoteSigner.generate("axbridge.example/log")
# Bundles enough for a second process, an open one at the end, and tiles at three levels.
SIZE = (WORTH_SHARING + BUNDLES_PER_STEP // 2) * 256 + 7


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Checkpoint]:
    root = tmp_path_factory.mktemp("recompute")
    store = FolderStore(root / "log", root / "private")
    made = Log.open(store, store, SIGNER)
    made.append([b"%d" % number for number in range(SIZE)], b"")
    store.close()
    note = (root / "log/checkpoint").read_bytes()
    return root / "log", open_checkpoint(note, [SIGNER.verifier], SIGNER.name)


def checked(log: tuple[Path, Checkpoint], processes: int) -> list[tuple[int, int]]:
    steps: list[tuple[int, int]] = []
    check_tree(*log, lambda done, total: steps.append((done, total)), processes)
    return steps


@pytest.mark.parametrize("processes", [1, 2])
def test_yes_and_how_far(log: tuple[Path, Checkpoint], processes: int) -> None:
    steps = checked(log, processes)
    assert steps[0] == (0, SIZE)
    assert steps[-1] == (SIZE, SIZE)
    assert steps == sorted(steps)
    assert len(steps) == WORTH_SHARING // BUNDLES_PER_STEP + 3


@pytest.mark.parametrize("processes", [1, 2])
def test_the_first_of_several_wrong_leaves_is_named(
    log: tuple[Path, Checkpoint], processes: int
) -> None:
    early, late = 70 * 256 + 9, (WORTH_SHARING + 3) * 256
    kept = {}
    for leaf in (late, early):
        path = log[0] / f"tile/entries/{leaf // 256:03d}"
        kept[path] = path.read_bytes()
        path.write_bytes(kept[path].replace(b"%d" % leaf, b"x" * len(str(leaf)), 1))
    try:
        with pytest.raises(Wrong) as found:
            checked(log, processes)
    finally:
        for path, content in kept.items():
            path.write_bytes(content)
    assert found.value.leaf == early


def test_a_wrong_tile_above_names_the_first_leaf_below_it(log: tuple[Path, Checkpoint]) -> None:
    path = log[0] / "tile/1/001"
    content = path.read_bytes()
    path.write_bytes(content[:32] + bytes(32) + content[64:])
    try:
        with pytest.raises(Wrong, match="not what its leaves hash to") as found:
            checked(log, 2)
    finally:
        path.write_bytes(content)
    assert found.value.leaf == 257 * 256


def test_a_task_gives_what_was_right_before_what_is_wrong(log: tuple[Path, Checkpoint]) -> None:
    path = log[0] / "tile/0/066"
    content = path.read_bytes()
    path.write_bytes(content + b"x")
    try:
        roots, problem, leaf = check_bundles(str(log[0]), WORTH_SHARING, BUNDLES_PER_STEP)
    finally:
        path.write_bytes(content)
    assert (len(roots), leaf) == (2 * 32, None)
    assert problem is not None
    assert "something after its last hash" in problem
