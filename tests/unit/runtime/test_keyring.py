"""Keys are created once, agreed on by all processes, destroyed for ever, and never shown."""

import hashlib
import hmac
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.runtime import keyring
from services.runtime.clock import ManualClock
from services.runtime.errors import DataLoss
from services.runtime.keyring import (
    EvidenceKeys,
    FileKeyRing,
    KeyDestroyed,
    KeyRing,
    MemoryKeyRing,
    main,
)

ROOT = Path(__file__).parents[3]
NAME = "purge/acme/202607"
LABEL = b"seal/v1"

RINGS: dict[str, Callable[[Path], KeyRing]] = {
    "file": FileKeyRing,
    "memory": lambda _: MemoryKeyRing(),
}


@pytest.fixture(params=sorted(RINGS))
def ring(request: pytest.FixtureRequest, tmp_path: Path) -> KeyRing:
    return RINGS[request.param](tmp_path / "ring")


def key_file(folder: Path, name: str = NAME) -> Path:
    return folder / (name.replace("/", "+") + ".key")


def test_derives_by_name_and_context(ring: KeyRing) -> None:
    derived = ring.derive(NAME, LABEL)
    assert len(derived) == 32
    assert ring.derive(NAME, LABEL) == derived
    others = {ring.derive(NAME, b"evidence/v1"), ring.derive("purge/acme/202608", LABEL)}
    assert len({derived, *others}) == 3


def test_destroyed_keys_stay_destroyed(ring: KeyRing) -> None:
    kept = ring.derive("purge/acme/202608", LABEL)
    ring.derive(NAME, LABEL)
    for _ in range(2):
        ring.destroy(NAME)
        with pytest.raises(KeyDestroyed) as caught:
            ring.derive(NAME, LABEL)
        assert str(caught.value) == f"KEY_DESTROYED key={NAME}"
    ring.destroy("purge/acme/202501")  # never used
    with pytest.raises(KeyDestroyed):
        ring.derive("purge/acme/202501", LABEL)
    assert ring.derive("purge/acme/202608", LABEL) == kept


BAD_NAMES = ["", "/", "a/", "/a", "a//b", ".", "..", "a/../b", "A", "a b", "a+b", "ä", "a\n", "a\0"]


@pytest.mark.parametrize("name", [*BAD_NAMES, "a" * 201])
def test_refuses_names_outside_the_form(ring: KeyRing, name: str) -> None:
    for call in (lambda: ring.derive(name, LABEL), lambda: ring.destroy(name)):
        with pytest.raises(ValueError, match="segments"):
            call()


@settings(deadline=None)
@given(st.lists(st.from_regex(r"[a-z0-9._/-]{1,30}", fullmatch=True), unique=True, max_size=8))
def test_every_valid_name_has_its_own_key(names: list[str]) -> None:
    ring = MemoryKeyRing()
    derived = []
    for name in names:
        try:
            derived.append(ring.derive(name, LABEL))
        except ValueError:
            assert any(not part or part[0] == "." for part in name.split("/"))
    assert len(set(derived)) == len(derived)


def test_the_file_is_the_key(tmp_path: Path) -> None:
    ring = FileKeyRing(tmp_path / "ring")
    derived = ring.derive(NAME, LABEL)
    [path] = (tmp_path / "ring").iterdir()
    assert path == key_file(tmp_path / "ring")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    key = path.read_bytes()
    assert hmac.digest(key, LABEL, "sha256") == derived
    assert FileKeyRing(tmp_path / "ring").derive(NAME, LABEL) == derived
    assert key.hex() not in repr(ring)
    assert repr(key) not in repr(ring)


def test_destroying_reaches_other_rings_within_a_second(tmp_path: Path) -> None:
    clock = ManualClock()
    ours, theirs = FileKeyRing(tmp_path, clock), FileKeyRing(tmp_path)
    ours.derive(NAME, LABEL)
    theirs.destroy(NAME)
    clock.advance(timedelta(seconds=1))
    with pytest.raises(KeyDestroyed):
        ours.derive(NAME, LABEL)


def test_a_full_cache_starts_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyring, "_CACHED", 2)
    ring = FileKeyRing(tmp_path)
    first = [ring.derive(f"tags/t{n}", LABEL) for n in range(5)]
    assert [ring.derive(f"tags/t{n}", LABEL) for n in range(5)] == first


def test_a_creator_that_died_before_its_link_leaves_no_key(tmp_path: Path) -> None:
    (tmp_path / ".0011223344556677.new").write_bytes(os.urandom(32))
    ring = FileKeyRing(tmp_path)
    assert ring.derive(NAME, LABEL) == FileKeyRing(tmp_path).derive(NAME, LABEL)


def test_destroying_overwrites_the_second_name_of_a_creator_that_died(tmp_path: Path) -> None:
    FileKeyRing(tmp_path).derive(NAME, LABEL)
    key = key_file(tmp_path).read_bytes()
    os.link(key_file(tmp_path), tmp_path / ".0011223344556677.new")
    FileKeyRing(tmp_path).destroy(NAME)
    assert key not in [path.read_bytes() for path in tmp_path.iterdir()]


def test_a_destroyer_that_died_before_its_rename_has_done_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring = FileKeyRing(tmp_path)
    derived = ring.derive(NAME, LABEL)

    def dies(*_: object) -> None:
        raise InterruptedError

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", dies)
        with pytest.raises(InterruptedError):
            ring.destroy(NAME)
    assert FileKeyRing(tmp_path).derive(NAME, LABEL) == derived
    ring.destroy(NAME)
    with pytest.raises(KeyDestroyed):
        FileKeyRing(tmp_path).derive(NAME, LABEL)


def test_a_cut_file_is_no_key(tmp_path: Path) -> None:
    key_file(tmp_path).write_bytes(b"short")
    with pytest.raises(DataLoss) as caught:
        FileKeyRing(tmp_path).derive(NAME, LABEL)
    assert caught.value.reason == "KEY_FILE_BROKEN"


RACER = """
import sys
from services.runtime.keyring import FileKeyRing, KeyDestroyed
ring = FileKeyRing(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for n in range(40):
    print(ring.derive(f"tags/t{n}", b"tag/v1").hex(), flush=True)
for n in range(40):
    if sys.argv[2] == "destroys":
        ring.destroy(f"purge/acme/{n}")
    else:
        try:
            ring.derive(f"purge/acme/{n}", b"seal/v1")
        except KeyDestroyed:
            pass
"""


def test_processes_agree_on_keys_and_on_their_end(tmp_path: Path) -> None:
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(tmp_path), role],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        for role in ("derives", "destroys", "derives", "destroys")
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    outputs = [racer.communicate()[0].split() for racer in racers]
    assert [racer.returncode for racer in racers] == [0] * 4
    assert len(outputs[0]) == len(set(outputs[0])) == 40
    assert outputs == [outputs[0]] * 4
    ring = FileKeyRing(tmp_path)
    for n in range(40):
        with pytest.raises(KeyDestroyed):
            ring.derive(f"purge/acme/{n}", LABEL)
    assert len(list(tmp_path.iterdir())) == 80  # no temporary file is left


def test_init_makes_the_evidence_pair_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["init", str(tmp_path / "evidence")])
    folder = tmp_path / "evidence"
    public, private = EvidenceKeys.load_public(folder), EvidenceKeys.load_private(folder)
    assert stat.S_IMODE((folder / EvidenceKeys.PRIVATE).stat().st_mode) == 0o600
    assert EvidenceKeys.load_public(folder / EvidenceKeys.PUBLIC) == public
    (folder / EvidenceKeys.PUBLIC).unlink()  # as if the first call had died in between
    main(["init", str(folder)])
    assert EvidenceKeys.load_public(folder) == public
    assert EvidenceKeys.load_private(folder) == private
    assert len(public) == len(private) == 32
    assert private.hex() not in capsys.readouterr().out
    assert len(list(folder.iterdir())) == 2


def test_the_tombstone_is_no_likely_key() -> None:
    # Same length as a key, so it can be written over one; a random key equals it with 2^-256.
    assert len(hashlib.sha256().digest()) == len(keyring._TOMBSTONE)


def test_a_suite_is_chosen_before_the_first_tag(tmp_path: Path) -> None:
    ring = FileKeyRing(tmp_path)
    assert ring.suite("acme") == "aes"
    main(["suite", str(tmp_path), "acme", "sm"])
    main(["suite", str(tmp_path), "beta", "sm"])
    main(["suite", str(tmp_path), "beta", "aes"])
    assert (FileKeyRing(tmp_path).suite("acme"), FileKeyRing(tmp_path).suite("beta")) == (
        "sm",
        "aes",
    )
    for tenant in ("acme", "beta"):
        ring.derive(f"tags/{tenant}", b"tag/v1")
    main(["suite", str(tmp_path), "acme", "sm"])  # what it is already
    for tenant, suite in (("acme", "aes"), ("beta", "sm")):
        with pytest.raises(ValueError, match="another suite"):
            main(["suite", str(tmp_path), tenant, suite])


def test_a_suite_is_noticed_within_a_second(tmp_path: Path) -> None:
    clock = ManualClock()
    ring = FileKeyRing(tmp_path, clock)
    assert ring.suite("acme") == "aes"
    FileKeyRing(tmp_path).choose("acme", "sm")
    assert ring.suite("acme") == "aes"
    clock.advance(timedelta(seconds=1))
    assert ring.suite("acme") == "sm"
