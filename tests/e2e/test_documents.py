"""Every Python example of the documents runs as it stands against a running cluster."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local.places import ROOT
from deploy.local.waiting import eventually
from services.audit.verify import verify_folder
from tests import scene
from tests.scene import Scene

_BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
PAGES = {
    str(path.relative_to(ROOT)): _BLOCK.findall(path.read_text("utf-8"))
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/**/*.md")))
}


def test_the_platforms_and_the_auditors_page_have_examples() -> None:
    assert {page for page, blocks in PAGES.items() if blocks} >= {
        "docs/platforms.md",
        "docs/auditors.md",
    }


@pytest.mark.parametrize("page", [page for page, blocks in PAGES.items() if blocks])
def test_the_examples_of_a_page_run(stage: Scene, tmp_path: Path, page: str) -> None:
    """The blocks of a page run in order in one process, in a folder as an auditor has it."""
    stage.pool("rides")
    old = a_checkpoint(stage, other_than=0)
    stage.pools.create("another")
    a_checkpoint(stage, other_than=size(old))
    shutil.copytree(stage.cluster.log, tmp_path / "log")
    (tmp_path / "vkey-you-were-given").write_text(stage.cluster.vkey + "\n")
    (tmp_path / "checkpoint-of-last-month").write_bytes(old)
    done = run(stage, tmp_path, "-c", "\n".join(PAGES[page]))
    assert done.returncode == 0, done.stderr


def test_the_auditors_command_answers_yes_and_exits_0(stage: Scene, tmp_path: Path) -> None:
    stage.pool("rides")
    scene.sound(stage.cluster)
    given = ("--vkey", stage.cluster.vkey)
    verify = ("-m", "services.audit.verify", str(stage.cluster.log), *given)
    for more in ((), ("--kafka", stage.bootstrap)):
        done = run(stage, tmp_path, *verify, *more)
        assert (done.returncode, done.stdout[:4]) == (0, "YES:"), done.stdout + done.stderr
    assert verify_folder(stage.cluster.log, stage.cluster.vkey).ok


def a_checkpoint(stage: Scene, other_than: int) -> bytes:
    """The published checkpoint, once its size is another."""
    path = stage.cluster.log / "checkpoint"
    eventually(lambda: size(path.read_bytes()) != other_than, scene.PATIENCE, what="the sequencer")
    return path.read_bytes()


def size(checkpoint: bytes) -> int:
    return int(checkpoint.split(b"\n")[1])


def run(stage: Scene, cwd: Path, *args: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *args],
        cwd=cwd,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "gen"))),
            "AXBRIDGE_ADDRESSES": str(stage.cluster.folder / "addresses.json"),
        },
        capture_output=True,
        text=True,
        timeout=scene.PATIENCE,
        check=False,
    )
