"""The command that follows a log, over a folder; what it prints, keeps and answers."""

import json
import threading
from pathlib import Path

import pytest

from services.audit import tail
from services.audit.entry import event_id_of, event_of, types_of
from services.audit.logfolder import LogFolder
from services.runtime.topics import BINDING_BINDINGS
from tests.audit_events import created, record
from tests.unit.audit.test_tileserver import serving

ORIGIN = "axbridge.example/log"


def append(root: Path, low: int, high: int, name: str = "e") -> str:
    """Grows the log; gives its vkey."""
    types = types_of(BINDING_BINDINGS)
    folder = LogFolder.open(root, ORIGIN, event_id_of)
    records = [record(created("b"), f"{name}{n}", offset=n) for n in range(low, high)]
    folder.append([event_of(some, types) for some in records], b"")
    folder.close()
    return (root / "log/vkey").read_text().strip()


def run(where: object, vkey: str, state: Path, *more: str) -> int:
    return tail.main([str(where), "--vkey", vkey, "--state", str(state), "--once", *more])


def ids(printed: str) -> list[str]:
    return [json.loads(line)["entry"]["event_id"] for line in printed.splitlines()]


def test_each_run_prints_what_is_new(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vkey, state = append(tmp_path, 0, 3), tmp_path / "state"
    assert run(tmp_path / "log", vkey, state) == tail.GOOD
    assert ids(capsys.readouterr().out) == ["e0", "e1", "e2"]
    assert run(tmp_path / "log", vkey, state) == tail.GOOD
    assert capsys.readouterr().out == ""
    append(tmp_path, 3, 5)
    with serving(tmp_path / "log") as url:
        assert run(url, vkey, state) == tail.GOOD
    printed = capsys.readouterr()
    assert ids(printed.out) == ["e3", "e4"]
    assert printed.err.startswith("YES: 5 leaves, root ")
    assert run(tmp_path / "log", vkey, tmp_path / "other", "--quiet") == tail.GOOD
    assert capsys.readouterr().out == ""


def test_a_fork_leaves_evidence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vkey, state = append(tmp_path / "one", 0, 3), tmp_path / "state"
    key = (tmp_path / "one/private/key").read_bytes()
    (tmp_path / "two/private").mkdir(parents=True)
    (tmp_path / "two/private/key").write_bytes(key)  # the holder of the key made two logs
    append(tmp_path / "two", 0, 4, "other")
    assert run(tmp_path / "one/log", vkey, state) == tail.GOOD
    kept = state.read_bytes()
    assert run(tmp_path / "two/log", vkey, state) == tail.WRONG
    assert "NO: " in capsys.readouterr().err
    evidence = (tmp_path / "state.contradiction").read_text()
    for name in ("one", "two"):
        assert (tmp_path / name / "log/checkpoint").read_text() in evidence
    assert state.read_bytes() == kept


def test_damage_and_silence_are_told_apart(tmp_path: Path) -> None:
    vkey, state = append(tmp_path, 0, 3), tmp_path / "state"
    with serving(tmp_path / "log") as url:
        pass
    assert run(url, vkey, state) == tail.UNREADABLE
    bundle = tmp_path / "log/tile/entries/000.p/3"
    bundle.write_bytes(bundle.read_bytes()[:-1])
    assert run(tmp_path / "log", vkey, state) == tail.WRONG
    assert not state.exists()


def test_usage_errors_end_with_2(tmp_path: Path) -> None:
    vkey, state = append(tmp_path, 0, 1), tmp_path / "state"
    state.write_text("nonsense")
    for arguments in (("log", "bad key", "new"), ("http://", vkey, "new"), ("log", vkey, "state")):
        where = arguments[0] if ":" in arguments[0] else tmp_path / arguments[0]
        with pytest.raises(SystemExit) as ended:
            run(where, arguments[1], tmp_path / arguments[2])
        assert ended.value.code == tail.UNREADABLE


def test_it_follows_until_it_is_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vkey = append(tmp_path, 0, 2)

    class OneRound(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            append(tmp_path, 2, 3)
            self.rounds = getattr(self, "rounds", 0) + 1
            return self.rounds == 2

    arguments = [str(tmp_path / "log"), "--vkey", vkey, "--state", str(tmp_path / "state")]
    assert tail.main(arguments, OneRound()) == tail.GOOD
    assert ids(capsys.readouterr().out) == ["e0", "e1", "e2"]
