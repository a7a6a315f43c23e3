"""Each event id becomes one leaf, on a real folder, whatever kills the sequencer."""

import errno
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest

from services.audit.checkpoint import BadKey, Checkpoint
from services.audit.log import LogBroken
from services.audit.logfolder import Event, LogFolder
from services.audit.merkle import leaf_hash
from services.audit.ports import LogLocked, StorageConflict
from services.audit.proof import check_consistency, check_inclusion
from services.audit.tilestore import FolderStore
from services.audit.verify import verify_folder

ORIGIN = "axbridge.example/log"


def id_of(entry: bytes) -> bytes:
    return entry.partition(b" ")[0]


def event(number: int, offset: int = 0) -> Event:
    return Event(b"%d" % number, b"%d at offset %d" % (number, offset))


def open_folder(root: Path) -> LogFolder:
    return LogFolder.open(root, ORIGIN, id_of)


def leaves(folder: LogFolder) -> list[bytes]:
    tree = folder.log.tree
    return [entry for _, part in tree.entries(0, tree.size) for entry in part]


def test_a_repeated_event_is_the_old_leaf(tmp_path: Path) -> None:
    folder = open_folder(tmp_path)
    first = folder.append([event(1), event(2), event(1, 9), event(3)], b"a")
    assert (first.leaves, first.fresh) == ([0, 1, 0, 2], 3)
    again = folder.append([event(3, 10), event(4), event(2, 11)], b"b")
    assert (again.leaves, again.fresh, again.checkpoint.size) == ([2, 3, 1], 1, 4)
    only = folder.append([event(4, 12)], b"c")
    assert (only.leaves, only.fresh, only.checkpoint) == ([3], 0, again.checkpoint)
    assert folder.find([b"4", b"5"]) == [3, None]
    folder.close()
    folder = open_folder(tmp_path)
    assert folder.log.state == b"c"
    assert folder.append([event(2, 13)], b"d").leaves == [1]
    assert leaves(folder) == [event(number).entry for number in (1, 2, 3, 4)]
    path = folder.log.tree.prover().inclusion(2)
    check_inclusion(leaf_hash(event(3).entry), 2, 4, path, folder.log.checkpoint.root)
    folder.close()


def test_a_lost_id_index_is_made_anew(tmp_path: Path) -> None:
    folder = open_folder(tmp_path)
    folder.append([event(number) for number in range(1000)], b"a")
    folder.close()
    for file in (tmp_path / "private/ids").iterdir():
        file.unlink()
    folder = open_folder(tmp_path)
    assert folder.append([event(999), event(0)], b"b").leaves == [999, 0]
    folder.close()


def test_the_index_of_another_log_is_refused(tmp_path: Path) -> None:
    for name, count in (("one", 3), ("two", 2)):
        folder = open_folder(tmp_path / name)
        folder.append([event(number) for number in range(count)], b"a")
        folder.close()
    (tmp_path / "two/private/ids").rename(tmp_path / "gone")
    (tmp_path / "one/private/ids").rename(tmp_path / "two/private/ids")
    with pytest.raises(StorageConflict, match="id index"):
        open_folder(tmp_path / "two")


def test_one_sequencer(tmp_path: Path) -> None:
    folder = open_folder(tmp_path)
    with pytest.raises(LogLocked):
        open_folder(tmp_path)
    folder.close()
    open_folder(tmp_path).close()


def test_the_key_belongs_to_the_log(tmp_path: Path) -> None:
    open_folder(tmp_path).close()
    with pytest.raises(BadKey, match=r"not of 'other\.example'"):
        LogFolder.open(tmp_path, "other.example", id_of)
    key = tmp_path / "private/key"
    stored = key.read_bytes()
    key.unlink()
    with pytest.raises(StorageConflict, match="key is gone"):
        open_folder(tmp_path)
    key.write_bytes(stored)
    vkey = tmp_path / "log/vkey"
    vkey.write_bytes(b"other\n")
    with pytest.raises(StorageConflict, match="vkey"):
        open_folder(tmp_path)
    vkey.unlink()
    open_folder(tmp_path).close()
    assert vkey.exists()


SEQUENCER = """
import random, sys
from pathlib import Path
from tests.unit.audit.test_logfolder import event, open_folder
folder = open_folder(Path(sys.argv[1]))
print("open", flush=True)
choose = random.Random(int(sys.argv[2]))
while True:
    at = int(folder.log.state or b"0")
    batch = [event(number) for number in range(at, at + choose.randrange(1, 600))]
    batch += [event(choose.randrange(at + 1), 7) for _ in range(20)]
    folder.append(batch, b"%d" % (at + len(batch) - 20))
"""


def test_killed_at_random_moments(tmp_path: Path) -> None:
    """What does this test do? SIGKILLs a sequencer that is fed repeats all the time, and demands
    after each kill that the log is sound, each event one leaf, in order, and that no checkpoint
    seen before is contradicted. How? The event numbers are the leaf numbers; the committed state
    is the number to go on with."""
    seed = time.time_ns() % 2**32
    print(f"seed {seed}")
    choose = Random(seed)
    seen: list[Checkpoint] = []
    for _ in range(8):
        command = [sys.executable, "-c", SEQUENCER, str(tmp_path), str(choose.randrange(2**32))]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"open\n"
            time.sleep(choose.uniform(0, 0.15))
            process.send_signal(signal.SIGKILL)
        folder = open_folder(tmp_path)
        checkpoint = folder.log.checkpoint
        assert folder.log.state == (b"%d" % checkpoint.size if checkpoint.size else b"")
        assert leaves(folder) == [event(number).entry for number in range(checkpoint.size)]
        for old in seen:
            proof = folder.log.tree.prover().consistency(old.size)
            check_consistency(old.size, old.root, checkpoint.size, checkpoint.root, proof)
        seen.append(checkpoint)
        folder.close()
        verdict = verify_folder(tmp_path / "log", (tmp_path / "log/vkey").read_text().strip())
        assert verdict.ok, verdict
    assert seen[-1].size > 0


def test_a_failed_append_settles_when_reopened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk under the tiles: the batch is committed, and there after the disk has room."""
    folder = open_folder(tmp_path)
    folder.append([event(1)], b"a")

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(FolderStore, "write", full)
        with pytest.raises(OSError, match="no space"):
            folder.append([event(2)], b"b")
    with pytest.raises(LogBroken):
        folder.append([event(2)], b"b")
    folder.close()
    folder = open_folder(tmp_path)
    assert folder.log.state == b"b"
    assert folder.append([event(2, 5)], b"c").leaves == [1]
    assert leaves(folder) == [event(1).entry, event(2).entry]
    folder.close()


def test_an_id_that_comes_again_with_other_content_is_replaced(tmp_path: Path) -> None:
    folder = LogFolder.open(tmp_path, ORIGIN, id_of, lambda one, two: one[-1:] == two[-1:])
    told: list[int] = []

    def contradicted(place: int) -> Event:
        told.append(place)
        return Event(b"parked-%d" % place, b"parked-%d" % place)

    events = [Event(b"1", b"1 a x"), Event(b"2", b"2 a x"), Event(b"2", b"2 b x")]
    assert folder.append(events, b"", contradicted).leaves == [0, 1, 1]
    events = [Event(b"1", b"1 c y"), Event(b"3", b"3 a x"), Event(b"3", b"3 a z")]
    assert folder.append(events, b"", contradicted).leaves == [2, 3, 4]
    assert sorted(told) == [0, 2]
    assert leaves(folder)[2:] == [b"parked-0", b"3 a x", b"parked-2"]
    folder.close()
