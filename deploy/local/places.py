"""Where local things live: the data folder and free ports. Starts nothing.

Ports come from below the kernel's ephemeral range (32768 and up on Linux): a client that keeps
dialling a stopped broker on an ephemeral port may be given that very port as its own and connect
to itself, after which the broker cannot start on it again.
"""

import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCAL = ROOT / ".local"
HOST = "127.0.0.1"

_FIRST_PORT, _LAST_PORT = 20_000, 29_999
_CLAIMS = Path(tempfile.gettempdir()) / f"axbridge-ports-{os.getuid()}"
_given: dict[int, int] = {}  # port → its lock, held while we live: it may not be bound yet
_TRIES = 200  # with a tenth of the range taken, 200 misses in a row have a chance of 1e-200


class NoFreePort(Exception):
    """Every port tried was taken: stop what fills the range, or name a port."""


def free_port() -> int:
    """Names a loopback port that nothing listens on now, each once; bind it soon."""
    choose = random.SystemRandom()  # not seeded with the tests: two runs must not choose alike
    for _ in range(_TRIES):
        port = choose.randint(_FIRST_PORT, _LAST_PORT)
        if not _claim(port):
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise NoFreePort(f"none of {_TRIES} ports tried in {_FIRST_PORT}..{_LAST_PORT} is free")


def _claim(port: int) -> bool:
    """Whether the port is ours to name: no process of ours, this one included, has named it."""
    if port in _given:
        return False
    _CLAIMS.mkdir(exist_ok=True)
    lock = os.open(_CLAIMS / str(port), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return False
    _given[port] = lock
    return True


def listens(port: int) -> bool:
    """Whether something accepts connections on the loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((HOST, port)) == 0
