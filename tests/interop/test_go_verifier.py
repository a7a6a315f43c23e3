"""Go libraries that axbridge did not write accept its logs as they lie on disk, and no others.

The program is tests/interop/logcheck. Without a Go toolchain these tests are skipped, except
where CI is set: there a missing toolchain is a failure.
"""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from services.audit import rotate
from services.audit.checkpoint import NoteSigner
from services.audit.cosignature import WitnessSigner
from services.audit.entry import event_id_of, key_event
from services.audit.gatherer import Gatherer
from services.audit.logfolder import Event, LogFolder
from services.audit.policy import Policy
from services.audit.served import ServedFolder
from services.audit.tlogproof import OfflineProof
from services.runtime.metrics import Metrics
from tests.interop.toolchain import go
from tests.unit.audit.test_tileserver import serving
from tests.unit.audit.test_witness import running, vkey_of

PROGRAM = Path(__file__).parent / "logcheck"
ORIGIN = "axbridge.example/log"
BATCH = 9_000  # no divisor of any size below, so that partial tiles are left and dropped

Check = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def logcheck(tmp_path_factory: pytest.TempPathFactory) -> Check:
    binary = tmp_path_factory.mktemp("logcheck") / "logcheck"
    command = [go(), "build", "-mod=readonly", "-o", str(binary), "."]
    built = subprocess.run(command, cwd=PROGRAM, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr

    def check(where: Path | str, vkey: str, *more: str) -> subprocess.CompletedProcess[str]:
        command = [str(binary), "-vkey", vkey, *more, str(where)]
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


def test_accepts_either_key_while_a_log_changes_them(logcheck: Check, tmp_path: Path) -> None:
    folder = LogFolder.open(tmp_path, "axbridge.example/log", event_id_of, key_event=key_event)
    folder.close()
    old, new = rotate.rotate(tmp_path, "begin")
    for vkey in (old, new):
        done = logcheck(tmp_path / "log", vkey)
        assert done.returncode == 0, done.stdout + done.stderr
    rotate.rotate(tmp_path, "finish")
    assert [logcheck(tmp_path / "log", vkey).returncode for vkey in (old, new)] == [1, 0]


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


@pytest.mark.parametrize("leaf", [0, 255, 299])
def test_accepts_an_offline_proof_and_no_other_entry(
    logcheck: Check, small: tuple[Path, str], tmp_path: Path, leaf: int
) -> None:
    published = ServedFolder(small[0]).published()
    path = published.tree.prover().inclusion(leaf)
    proof, entry = tmp_path / "proof", tmp_path / "entry"
    proof.write_bytes(OfflineProof(leaf, path, published.note).render())
    entry.write_bytes(published.tree.entry(leaf))
    arguments = ("", small[1], "-proof", str(proof), "-entry", str(entry))
    assert logcheck(*arguments).stdout.startswith(f"YES: {ORIGIN} 300 ")
    entry.write_bytes(entry.read_bytes() + b".")
    assert logcheck(*arguments).stdout.startswith("NO: ")


def test_accepts_a_witnessed_checkpoint_by_the_same_policy(
    logcheck: Check, small: tuple[Path, str], tmp_path: Path
) -> None:
    folder, vkey = small
    with running(tmp_path / "1", vkey) as one, running(tmp_path / "2", vkey) as two:
        witnesses = [f"witness w{n} {vkey_of(url).vkey} {url}" for n, url in enumerate((one, two))]
        dead = WitnessSigner.generate("dead").verifier.vkey
        lines = [*witnesses, f"witness w2 {dead} http://127.0.0.1:1/"]
        text = "\n".join([*lines, "group most 2 w0 w1 w2", "quorum most", ""])
        gatherer = Gatherer(folder, tmp_path / "hold", Policy.parse(text), Metrics("audit"))
        assert gatherer.round()
        gatherer.close()
    policy = tmp_path / "policy"
    policy.write_text(text)
    done = logcheck(folder, vkey, "-policy", str(policy))
    assert done.stdout.startswith(f"YES: {ORIGIN} 300 "), done.stdout + done.stderr
    policy.write_text(text.replace("most 2", "most 3"))
    assert logcheck(folder, vkey, "-policy", str(policy)).stdout.startswith("NO: the policy")
