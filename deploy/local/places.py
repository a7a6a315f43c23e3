"""Where local things live: the data folder and free ports. Starts nothing.

Ports come from below the kernel's ephemeral range (32768 and up on Linux): a client that keeps
dialling a stopped broker on an ephemeral port may be given that very port as its own and connect
to itself, after which the broker cannot start on it again.
"""

import random
import socket
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCAL = ROOT / ".local"
HOST = "127.0.0.1"

_FIRST_PORT, _LAST_PORT = 20_000, 29_999
_given: set[int] = set()  # by this process: what was named may not be bound yet
_TRIES = 200  # with a tenth of the range taken, 200 misses in a row have a chance of 1e-200


class NoFreePort(Exception):
    """Every port tried was taken: stop what fills the range, or name a port."""


def free_port() -> int:
    """Names a loopback port that nothing listens on now, each once; bind it soon."""
    choose = random.SystemRandom()  # not seeded with the tests: two runs must not choose alike
    for _ in range(_TRIES):
        port = choose.randint(_FIRST_PORT, _LAST_PORT)
        if port in _given:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            _given.add(port)
            return port
    raise NoFreePort(f"none of {_TRIES} ports tried in {_FIRST_PORT}..{_LAST_PORT} is free")


def listens(port: int) -> bool:
    """Whether something accepts connections on the loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((HOST, port)) == 0
