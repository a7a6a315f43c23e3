"""The verifier says yes to what the log wrote and finds any other byte."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.audit import verify
from services.audit.checkpoint import BadKey, Checkpoint, NoteSigner
from services.audit.cosignature import WitnessSigner
from services.audit.log import Log
from services.audit.policy import Policy
from services.audit.tilestore import FolderStore
from services.audit.verify import Verdict, verify_folder

SIGNER = NoteSigner.generate("axbridge.example/log")
VKEY = SIGNER.verifier.vkey
WITNESSES = [WitnessSigner.generate(f"witness.example/{number}") for number in range(3)]


def make(root: Path, *sizes: int) -> Path:
    """A closed log that was appended to these sizes, one after the other."""
    store = FolderStore(root / "log", root / "private")
    store.write_served("vkey", VKEY.encode() + b"\n")
    log = Log.open(store, store, SIGNER)
    for low, high in zip((0, *sizes), sizes, strict=False):
        log.append([b"entry %d" % number for number in range(low, high)], b"")
    store.close()
    return root / "log"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """600 leaves, with older partials of the tiles still open."""
    return make(tmp_path_factory.mktemp("verify"), 3, 300, 520, 533, 600)


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 5000, 66_000])
def test_yes(tmp_path: Path, size: int) -> None:
    steps: list[tuple[int, int]] = []
    log = make(tmp_path, size) if size else make(tmp_path)
    verdict = verify_folder(log, VKEY, lambda done, total: steps.append((done, total)))
    assert verdict.ok, verdict
    assert verdict.checkpoint is not None
    assert verdict.checkpoint.size == size
    assert str(verdict).startswith(f"YES: {size} entries of {SIGNER.name} recomputed, root ")
    assert steps[0] == (0, size)
    assert steps[-1] == (size, size)


def test_older_partials_stand_beside_newer_ones(folder: Path) -> None:
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert {"tile/0/002.p/8", "tile/entries/002.p/21", "tile/0/002.p/88"} <= set(names)
    assert verify_folder(folder, VKEY).ok


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_any_flipped_bit_of_any_file_is_found(folder: Path, data: st.DataObject) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    path = data.draw(st.sampled_from(files))
    content = path.read_bytes()
    bit = data.draw(st.integers(0, len(content) * 8 - 1))
    flipped = bytearray(content)
    flipped[bit // 8] ^= 1 << bit % 8
    path.write_bytes(flipped)
    try:
        assert not verify_folder(folder, VKEY).ok
    finally:
        path.write_bytes(content)


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_any_cut_or_lengthened_or_lost_file_is_found(folder: Path, data: st.DataObject) -> None:
    needed = ["checkpoint", "tile/0/000", "tile/0/002.p/88", "tile/1/000.p/2", "tile/entries/001"]
    path = folder / data.draw(st.sampled_from([*needed, "tile/entries/002.p/88"]))
    content = path.read_bytes()
    cut = data.draw(st.integers(0, len(content) - 1))
    try:
        for damaged in (content[:cut], content + content[:1], content + content):
            path.write_bytes(damaged)
            assert not verify_folder(folder, VKEY).ok
        path.unlink()
        assert not verify_folder(folder, VKEY).ok
    finally:
        path.write_bytes(content)


def damage(log: Path, name: str, old: bytes, new: bytes) -> Verdict:
    path = log / name
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))
    verdict = verify_folder(log, VKEY)
    path.write_bytes(content)
    return verdict


def test_the_first_wrong_leaf_is_named(folder: Path) -> None:
    wrong = damage(folder, "tile/entries/001", b"entry 300", b"entry 3x0")
    assert (wrong.wrong_leaf, wrong.ok) == (300, False)
    assert str(wrong).startswith("NO: ")
    assert str(wrong).endswith("first wrong leaf: 300")
    # A wrong length shifts all that follows.
    wrong = damage(folder, "tile/entries/001", b"\x09entry 301", b"\x08entry 301")
    assert wrong.wrong_leaf == 301
    hashes = (folder / "tile/0/002.p/88").read_bytes()
    wrong = damage(folder, "tile/0/002.p/88", hashes[-32:], bytes(32))
    assert wrong.wrong_leaf == 599
    hashes = (folder / "tile/1/000.p/2").read_bytes()
    wrong = damage(folder, "tile/1/000.p/2", hashes[-32:], bytes(32))
    assert wrong.wrong_leaf == 256


def test_a_forged_history_has_not_the_signed_root(tmp_path: Path) -> None:
    honest, forged = make(tmp_path / "honest", 300), tmp_path / "forged"
    store = FolderStore(forged / "log", forged / "private")
    log = Log.open(store, store, SIGNER)
    log.append([b"forged %d" % number for number in range(300)], b"")
    store.close()
    shutil.copy(honest / "checkpoint", forged / "log/checkpoint")
    verdict = verify_folder(forged / "log", VKEY)
    assert verdict.problem is not None
    assert "not the signed one" in verdict.problem


def test_a_log_that_grows_is_checked_as_of_its_checkpoint(tmp_path: Path) -> None:
    log = make(tmp_path, 300)
    old = (log / "checkpoint").read_bytes()
    store = FolderStore(tmp_path / "log", tmp_path / "private")
    Log.open(store, store, SIGNER).append([b"more"] * 300, b"")
    store.close()
    (log / "checkpoint").write_bytes(old)
    verdict = verify_folder(log, VKEY)
    assert verdict.ok, verdict
    assert verdict.ahead == 5


def test_a_witnessed_checkpoint_is_of_the_same_tree(tmp_path: Path) -> None:
    log, fork = make(tmp_path / "one", 300), make(tmp_path / "two", 300, 600)
    shutil.copy(log / "checkpoint", log / "checkpoint.witnessed")
    shutil.copy(log / "checkpoint", fork / "checkpoint.witnessed")
    assert verify_folder(log, VKEY).ok
    assert verify_folder(fork, VKEY).ok  # an earlier one of the same leaves
    shutil.copy(fork / "checkpoint", log / "checkpoint.witnessed")
    assert verify_folder(log, VKEY).ok  # newer than what is checked
    other = SIGNER.sign(Checkpoint(SIGNER.name, 300, bytes(32)).text())
    (fork / "checkpoint.witnessed").write_bytes(other)
    assert "another tree of 300 leaves" in str(verify_folder(fork, VKEY))
    (fork / "checkpoint.witnessed").write_bytes(other.replace(b"300", b"301"))
    assert not verify_folder(fork, VKEY).ok


def cosign(log: Path, *witnesses: WitnessSigner) -> None:
    note = (log / "checkpoint").read_text()
    text = note.rpartition("\n\n")[0] + "\n"
    lines = [witness.cosign(text, 1_767_225_600) for witness in witnesses]
    (log / "checkpoint.witnessed").write_text(note + "".join(lines))


def policy(threshold: int) -> str:
    keys = [witness.verifier.vkey for witness in WITNESSES]
    named = "".join(f"witness w{n} {vkey} http://w{n}\n" for n, vkey in enumerate(keys))
    return f"{named}group g {threshold} w0 w1 w2\nquorum g\n"


def test_enough_witnesses_cosigned(tmp_path: Path) -> None:
    log = make(tmp_path / "one", 300)
    two, all_ = Policy.parse(policy(2)), Policy.parse(policy(3))
    assert verify_folder(log, VKEY, policy=Policy.parse("quorum none")).ok
    assert verify_folder(log, VKEY, policy=two).problem == "there is no checkpoint.witnessed"
    cosign(log, WITNESSES[2], WITNESSES[0])
    verdict = verify_folder(log, VKEY, policy=two)
    assert verdict.ok, verdict
    assert str(verdict).endswith("the first 300 entries are cosigned by 2 witnesses")
    assert "too few" in str(verify_folder(log, VKEY, policy=all_))
    shorter = make(tmp_path / "two", 200)
    shutil.copy(log / "checkpoint.witnessed", shorter / "checkpoint.witnessed")
    assert "leaves are missing" in str(verify_folder(shorter, VKEY, policy=two))


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_any_flipped_bit_of_a_witnessed_checkpoint_is_found(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    log = make(tmp_path_factory.mktemp("flip"), 3)
    cosign(log, *WITNESSES)
    path = log / "checkpoint.witnessed"
    flipped = bytearray(path.read_bytes())
    bit = data.draw(st.integers(0, len(flipped) * 8 - 1))
    flipped[bit // 8] ^= 1 << bit % 8
    path.write_bytes(flipped)
    assert not verify_folder(log, VKEY, policy=Policy.parse(policy(3))).ok


def test_other_files(folder: Path) -> None:
    (folder / "index.html").write_text("beside the log")
    assert verify_folder(folder, VKEY).ok
    stray = folder / "tile/0/1"
    stray.write_bytes(b"")
    assert verify_folder(folder, VKEY).problem == "tile/0/1 is no name of a tile"
    stray.unlink()


def test_keys(folder: Path, tmp_path: Path) -> None:
    other = NoteSigner.generate(SIGNER.name).verifier.vkey
    assert verify_folder(folder, other).problem == "the vkey beside the log is not the given one"
    (folder / "vkey").rename(tmp_path / "vkey")
    assert verify_folder(folder, VKEY).ok
    assert verify_folder(folder, other).problem == "no known key signed the note"
    (tmp_path / "vkey").rename(folder / "vkey")
    with pytest.raises(BadKey):
        verify_folder(folder, "no key")
    assert verify_folder(tmp_path, VKEY).problem == "there is no checkpoint"


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_any_flipped_bit_is_found_while_two_keys_sign(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    root = tmp_path_factory.mktemp("two")
    other = NoteSigner.generate(SIGNER.name)
    store = FolderStore(root / "log", root / "private")
    store.write_served("vkey", f"{VKEY}\n{other.verifier.vkey}\n".encode())
    Log.open(store, store, SIGNER, [other]).append([b"a"], b"")
    store.close()
    log = root / "log"
    for vkey in (VKEY, other.verifier.vkey):
        assert verify_folder(log, vkey).ok
    path = log / data.draw(st.sampled_from(["checkpoint", "vkey"]))
    flipped = bytearray(path.read_bytes())
    bit = data.draw(st.integers(0, len(flipped) * 8 - 1))
    flipped[bit // 8] ^= 1 << bit % 8
    path.write_bytes(flipped)
    assert not verify_folder(log, VKEY).ok


def test_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify.main([str(folder)]) == 0
    assert capsys.readouterr().out.startswith("YES: 600 entries")
    assert verify.main([str(folder), "--vkey", VKEY]) == 0
    entry = folder / "tile/entries/000"
    content = entry.read_bytes()
    entry.write_bytes(content.replace(b"entry 7", b"entry X", 1))
    assert verify.main([str(folder)]) == 1
    entry.write_bytes(content)
    assert "first wrong leaf: 7\n" in capsys.readouterr().out
    (tmp_path / "policy").write_text(policy(2))
    assert verify.main([str(folder), "--policy", str(tmp_path / "policy")]) == 1
    (tmp_path / "vkey").write_bytes(b"\xff no key\n")
    assert verify.main([str(tmp_path)]) == 1
    (tmp_path / "vkey").unlink()
    with pytest.raises(SystemExit):
        verify.main([str(folder), "--group", "2/2"])
    key, no_policy = ["--vkey", "x"], ["--policy", str(folder / "checkpoint")]
    for usage in (
        [],
        [str(tmp_path)],
        [str(tmp_path / "no")],
        *[[str(folder), *more] for more in (key, no_policy)],
    ):
        with pytest.raises(SystemExit) as exit_info:
            verify.main(usage)
        assert exit_info.value.code == 2
    command = [sys.executable, "-m", "services.audit.verify", str(folder)]
    done = subprocess.run(command, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
