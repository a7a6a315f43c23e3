"""The command line Valkey is started with. Starting it is a contract test."""

from pathlib import Path

import pytest

from deploy.local.places import listens
from deploy.local.valkey import Valkey


def test_it_starts_nothing_before_start(tmp_path: Path) -> None:
    valkey = Valkey(tmp_path / "valkey", port=None)
    assert not valkey.child.running
    assert not listens(valkey.port)
    assert valkey.url == f"redis://127.0.0.1:{valkey.port}"


@pytest.mark.parametrize(("appendonly", "word"), [(True, "yes"), (False, "no")])
def test_it_listens_on_loopback_and_persists_only_as_told(
    tmp_path: Path, appendonly: bool, word: str
) -> None:
    valkey = Valkey(tmp_path, port=21_000, appendonly=appendonly, appendfsync="always")
    _server, *flags = valkey.child._argv
    options = dict(zip(flags[::2], flags[1::2], strict=True))
    assert options["--bind"] == "127.0.0.1"
    assert options["--port"] == "21000"
    assert options["--appendonly"] == word
    assert options["--appendfsync"] == "always"
    assert options["--save"] == ""
