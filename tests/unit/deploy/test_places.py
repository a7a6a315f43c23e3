"""Ports: free ones are free, and outside the range the kernel gives to clients."""

import os
import socket
import subprocess
import sys

import pytest

from deploy.local import places
from deploy.local.places import HOST, NoFreePort, free_port, listens


def test_a_free_port_can_be_bound_and_is_below_the_ephemeral_range() -> None:
    port = free_port()
    assert 20_000 <= port < 32_768
    with socket.create_server((HOST, port)):
        assert listens(port)
    assert not listens(port)


def test_a_taken_range_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server((HOST, 0)) as server:
        taken = server.getsockname()[1]
        monkeypatch.setattr(places, "_FIRST_PORT", taken)
        monkeypatch.setattr(places, "_LAST_PORT", taken)
        with pytest.raises(NoFreePort):
            free_port()


def test_no_port_is_named_twice_also_by_another_process() -> None:
    code = "from deploy.local.places import free_port; print(*(free_port() for _ in range(50)))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    mine = {free_port() for _ in range(50)}
    other = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    theirs = {int(port) for port in other.stdout.split()}
    assert len(mine) == len(theirs) == 50
    assert not mine & theirs
