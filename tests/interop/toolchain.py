"""What the machine must bring, or a word why it does not: a skip, except where CI is set."""

import importlib.util
import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest


def go() -> str:
    """The go command. Without one the test is skipped; in CI it fails."""
    found = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    if found is None:
        _missing("no Go toolchain: nothing was checked with foreign programs")
    return found


def faketime() -> str:
    """The library of Debian's `libfaketime`; without it the test is skipped, and fails in CI."""
    found = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
    if found is None:
        _missing("no libfaketime: no clock was stepped")
    return str(found)


def postgres() -> Path:
    """The programs of Debian's `postgresql`, with the client of `make install`."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found or importlib.util.find_spec("sqlalchemy") is None:
        _missing("no PostgreSQL, or no client for it: the index was tried on SQLite only")
    return found[-1].parent


def pyarrow() -> None:
    """Apache's reader and writer of Parquet."""
    if importlib.util.find_spec("pyarrow") is None:
        _missing("no pyarrow: Parquet was not tried")


def program(name: str) -> str:
    """A program of Debian's; without it the test is skipped, and fails in CI."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        _missing(f"no {name}: `make packages`")
    return found


def _missing(why: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(why)
    pytest.skip(why)
