"""Ports: free ones are free, and outside the range the kernel gives to clients."""

import socket

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
