"""A log changes its keys: as planned, after a compromise, and with a crash at each step."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from axbridge.audit.v1 import entry_pb2
from google.protobuf.message import Message

from services.audit import rotate, tail
from services.audit.checkpoint import Checkpoint, NoteVerifier, good_signatures, text_of
from services.audit.entry import event_id_of, event_of, key_event, message_of, types_of
from services.audit.logfolder import LogFolder
from services.audit.logkeys import LogKeys
from services.audit.served import ServedFolder
from services.audit.tilestore import FolderStore
from services.audit.verify import verify_folder
from services.runtime.topics import BINDING_BINDINGS
from tests.audit_events import created, record

ORIGIN = "axbridge.example/log"


def grow(root: Path, *names: str) -> None:
    """As the sequencer does: opens, appends, closes."""
    folder = LogFolder.open(root, ORIGIN, event_id_of, key_event=key_event)
    types = types_of(BINDING_BINDINGS)
    some = [event_of(record(created("b"), name), types) for name in names]
    folder.append(some, b"state")
    folder.close()


def leaves(root: Path) -> list[Message | str]:
    """Per leaf its event id, or what it says of a key."""
    tree = ServedFolder(root / "log").published().tree
    found: list[Message | str] = []
    for _, part in tree.entries(0, tree.size):
        for stored in part:
            entry = entry_pb2.Entry.FromString(stored)
            own = entry.event_id.startswith("log-key/")
            found.append(message_of(entry) if own else entry.event_id)
    return found


def signers(root: Path, vkeys: tuple[str, ...]) -> list[bool]:
    """Which of these keys signed what is published."""
    note = (root / "log/checkpoint").read_bytes()
    verifiers = [NoteVerifier.parse(vkey) for vkey in vkeys]
    _, good = good_signatures(note, verifiers)
    return [(each.name, each.key_id) in good for each in verifiers]


def checkpoint(root: Path) -> Checkpoint:
    return Checkpoint.parse(text_of((root / "log/checkpoint").read_bytes()))


def follow(root: Path, vkey: str, state: Path) -> int:
    return tail.main(
        [str(root / "log"), "--vkey", vkey, "--state", str(state), "--once", "--quiet"]
    )


def test_a_planned_change(tmp_path: Path) -> None:
    root, state = tmp_path / "audit", tmp_path / "state"
    grow(root, "a")
    old = ServedFolder(root / "log").published().vkey
    assert follow(root, old, state) == tail.GOOD
    assert rotate.rotate(root, "begin")[0] == old
    grow(root, "b")
    old, new = ServedFolder(root / "log").published().vkeys
    assert signers(root, (old, new)) == [True, True]
    assert verify_folder(root / "log", old).ok
    assert verify_folder(root / "log", new).ok
    assert follow(root, old, state) == tail.GOOD  # and learns the new key
    last = checkpoint(root)
    assert rotate.rotate(root, "finish") == (new,)
    grow(root, "c")
    assert ServedFolder(root / "log").published().vkeys == (new,)
    assert signers(root, (old, new)) == [False, True]
    assert verify_folder(root / "log", new).ok
    assert not verify_folder(root / "log", old).ok
    for _ in range(2):
        assert follow(root, old, state) == tail.GOOD  # by what the log itself said
    assert leaves(root) == [
        "a",
        entry_pb2.LogKeyAdded(vkey=new),
        "b",
        entry_pb2.LogKeyRetired(
            vkey=old, reason=entry_pb2.LOG_KEY_END_ROTATED, last_size=3, last_root=last.root
        ),
        "c",
    ]
    assert old not in (root / "private/key").read_text()
    kept = json.loads(state.read_text())
    assert (kept["successors"], kept["ended"], kept["size"]) == ([new], True, 5)


def test_after_a_compromise(tmp_path: Path) -> None:
    root, state = tmp_path / "audit", tmp_path / "state"
    grow(root, "a", "b")
    old, last = ServedFolder(root / "log").published().vkey, checkpoint(root)
    assert follow(root, old, state) == tail.GOOD
    (root / "log/checkpoint.witnessed").write_bytes((root / "log/checkpoint").read_bytes())
    (new,) = rotate.rotate(root, "revoke")
    assert signers(root, (old, new)) == [False, True]
    assert not (root / "log/checkpoint.witnessed").exists()  # only the lost key vouches for it
    assert leaves(root)[2:] == [
        entry_pb2.LogKeyAdded(vkey=new),
        entry_pb2.LogKeyRetired(
            vkey=old, reason=entry_pb2.LOG_KEY_END_COMPROMISED, last_size=2, last_root=last.root
        ),
    ]
    assert verify_folder(root / "log", new).ok
    # An auditor is told the new key by other means; what was seen before still binds the log.
    assert follow(root, old, state) == tail.WRONG
    assert follow(root, new, state) == tail.GOOD
    assert json.loads(state.read_text())["size"] == 4
    forged = tmp_path / "forged"
    (forged / "private").mkdir(parents=True)
    (forged / "private/key").write_bytes((root / "private/key").read_bytes())
    grow(forged, "a", "x", "b", "c", "d", "e")
    assert follow(forged, new, state) == tail.WRONG
    assert (tmp_path / "state.contradiction").exists()


@pytest.mark.parametrize("step", ["begin", "finish", "revoke"])
@pytest.mark.parametrize("at", ["keys", "leaves"])
def test_a_crash_in_a_step_is_settled_by_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, at: str
) -> None:
    """`keys`: after the new key file, before anything else. `leaves`: after the leaves, before the
    files that say so."""

    class Killed(Exception):
        pass

    grow(tmp_path, "a")
    if step == "finish":
        rotate.rotate(tmp_path, "begin")

    def killed(*_: object, **__: object) -> None:
        raise Killed

    written: Callable[..., None] = FolderStore.write_served

    def killed_after_leaves(store: FolderStore, name: str, content: bytes) -> None:
        tree = ServedFolder(tmp_path / "log").published().tree
        if event_id_of(tree.entry(tree.size - 1)).startswith(b"log-key/") and at == "leaves":
            raise Killed
        written(store, name, content)

    before = len(leaves(tmp_path))
    with monkeypatch.context() as patch:
        if at == "keys":
            patch.setattr(LogFolder, "open", killed)
        elif step == "begin":
            patch.setattr(FolderStore, "write_served", killed_after_leaves)
        else:
            rendered: Callable[[LogKeys], str] = LogKeys.render

            def killed_at_the_end(keys: LogKeys) -> str:
                if not keys.ended:
                    raise Killed
                return rendered(keys)

            patch.setattr(LogKeys, "render", killed_at_the_end)
        with pytest.raises(Killed):
            rotate.rotate(tmp_path, step)
    grow(tmp_path, "z")
    grow(tmp_path)
    changes = leaves(tmp_path)[before:]
    assert len(changes) == {"begin": 1, "finish": 1, "revoke": 2}[step] + 1
    assert changes[-1] == "z"
    vkeys = ServedFolder(tmp_path / "log").published().vkeys
    assert len(vkeys) == (2 if step == "begin" else 1)
    assert all(signers(tmp_path, vkeys))
    assert all(verify_folder(tmp_path / "log", vkey).ok for vkey in vkeys)


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        rotate.main([str(tmp_path), "begin"])
    grow(tmp_path, "a")
    assert rotate.main([str(tmp_path), "finish"]) == 1
    assert "begin a change first" in capsys.readouterr().err
    folder = LogFolder.open(tmp_path, ORIGIN, event_id_of)
    assert rotate.main([str(tmp_path), "begin"]) == 1
    assert "stop the sequencer first" in capsys.readouterr().err
    folder.close()
    assert rotate.main([str(tmp_path), "begin"]) == 0
    printed = capsys.readouterr().out
    assert printed == (tmp_path / "log/vkey").read_text()
    assert "PRIVATE" not in printed
