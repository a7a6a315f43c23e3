"""The Go toolchain, or a word why there is none: a skip, except where CI is set."""

import os
import shutil

import pytest


def go() -> str:
    """The go command. Without one the test is skipped; in CI it fails."""
    found = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("CI runs what is written in Go, but there is no Go toolchain")
        pytest.skip("no Go toolchain: nothing was checked with foreign programs")
    return found
