"""Go libraries that axbridge did not write accept its logs as they lie on disk, and no others.

The program is tests/interop/logcheck. Without a Go toolchain these tests are skipped, except
where CI is set: there a missing toolchain is a failure.
"""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from services.audit.checkpoint import NoteSigner
from services.audit.logfolder import Event, LogFolder
from tests.interop.toolchain import go
from tests.unit.audit.test_tileserver import serving

PROGRAM = Path(__file__).parent / "logcheck"
ORIGIN = "axbridge.example/log"
BATCH = 9_000  # no divisor of any size below, so that partial tiles are left and dropped

Check = Callable[[Path | str, str], subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def logcheck(tmp_path_factory: pytest.TempPathFactory) -> Check:
    binary = tmp_path_factory.mktemp("logcheck") / "logcheck"
    command = [go(), "build", "-mod=readonly", "-o", str(binary), "."]
    built = subprocess.run(command, cwd=PROGRAM, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr

    def check(where: Path | str, vkey: str) -> subprocess.CompletedProcess[str]:
        command = [str(binary), "-vkey", vkey, str(where)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    return check


def make(root: Path, size: int) -> tuple[Path, str]:
    """A log of `size` entries of many lengths, and its vkey."""
    folder = LogFolder.open(root, ORIGIN, lambda entry: entry[:8])
    for first in range(0, size, BATCH):
        numbers = range(first, min(first + BATCH, size))
        ids = [number.to_bytes(8, "big") for number in numbers]
        folder.append([Event(key, key + bytes(key[-1])) for key in ids], b"")
    assert folder.log.checkpoint.size == size
    folder.close()
    return root / "log", (root / "log/vkey").read_text().strip()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    return make(tmp_path_factory.mktemp("small"), 300)


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 70_000])
def test_accepts(logcheck: Check, tmp_path: Path, size: int) -> None:
    done = logcheck(*make(tmp_path, size))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"YES: {ORIGIN} {size} ")


def test_accepts_over_http(logcheck: Check, small: tuple[Path, str]) -> None:
    with serving(small[0]) as url:
        done = logcheck(url, small[1])
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "name",
    [
        "checkpoint",
        "tile/0/000",
        "tile/0/001.p/44",
        "tile/1/000.p/1",
        "tile/entries/000",
        "tile/entries/001.p/44",
    ],
)
def test_refuses_a_changed_file(logcheck: Check, small: tuple[Path, str], name: str) -> None:
    path = small[0] / name
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    try:
        done = logcheck(*small)
    finally:
        path.write_bytes(content)
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout.startswith("NO: ")


def test_refuses_another_key(logcheck: Check, small: tuple[Path, str]) -> None:
    done = logcheck(small[0], NoteSigner.generate(ORIGIN).verifier.vkey)
    assert (done.returncode, done.stdout[:4]) == (1, "NO: ")
