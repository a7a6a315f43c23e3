"""The leash as a program: it becomes the program, or ends if its parent is another."""

import os
import subprocess
import sys

from deploy.local import leash


def _run(parent: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-S", leash.__file__, str(parent), "echo", "became"]
    return subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)


def test_it_becomes_the_program() -> None:
    done = _run(os.getpid())
    assert (done.returncode, done.stdout) == (0, "became\n")


def test_it_ends_if_the_parent_is_gone() -> None:
    done = _run(os.getppid())
    assert done.returncode != 0
    assert done.stdout == ""
    assert "the parent is gone" in done.stderr
