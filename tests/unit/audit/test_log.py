"""The log under every fault, each one as "not applied" and as "applied but an error seen"."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.audit.checkpoint import BadNote, Checkpoint, NoteSigner
from services.audit.log import Log, LogBroken
from services.audit.ports import CheckpointMoved, StorageConflict, TileConflict
from services.audit.reader import TileMissing
from services.audit.record import BadRecord
from services.audit.tiles import EntryTooLong
from tests.unit.audit.memory import Apply, Crash, MemoryStore, Operation, check_log, naive_root

SIGNER = NoteSigner.generate("axbridge.example/log")


def entries(low: int, high: int) -> list[bytes]:
    return [b"entry %d" % number for number in range(low, high)]


def open_log(store: MemoryStore) -> Log:
    return Log.open(store, store, SIGNER)


def grown(*sizes: int) -> MemoryStore:
    """A store whose log was appended to these sizes, one after the other."""
    store = MemoryStore()
    log = open_log(store)
    for low, high in zip((0, *sizes), sizes, strict=False):
        log.append(entries(low, high), b"%d" % high)
    return store


class Fault:
    """Strikes at the first `operation`, then never again."""

    def __init__(self, operation: Operation, apply: Apply) -> None:
        self.operation, self.apply, self.struck = operation, apply, False

    def __call__(self, operation: Operation) -> Apply | None:
        if self.struck or operation != self.operation:
            return None
        self.struck = True
        return self.apply


def test_a_new_log_publishes_the_empty_tree() -> None:
    store = MemoryStore()
    log = open_log(store)
    assert log.checkpoint == Checkpoint(SIGNER.name, 0, naive_root([]))
    assert (log.origin, log.state) == (SIGNER.name, b"")
    assert check_log(store, SIGNER) == []
    assert store.files == {}


def test_leaves_and_state_survive_reopening() -> None:
    store = grown(1, 3, 255, 256, 257, 700)
    log = open_log(store)
    assert log.state == b"700"
    assert log.checkpoint.size == 700
    assert check_log(store, SIGNER) == entries(0, 700)
    assert log.note == store.checkpoint
    log.append(entries(700, 70_000), b"s")
    log.append(entries(70_000, 70_001), b"t")
    assert log.tree.entry(69_999) == b"entry 69999"
    assert check_log(store, SIGNER) == entries(0, 70_001)
    assert open_log(store).state == b"t"


def test_partials_go_when_their_tile_is_full() -> None:
    store = grown(3, 200, 256, 260)
    assert sorted(store.files) == [
        "tile/0/000",
        "tile/0/001.p/4",
        "tile/1/000.p/1",
        "tile/entries/000",
        "tile/entries/001.p/4",
    ]


def test_state_moves_without_leaves() -> None:
    store = grown(5)
    log = open_log(store)
    note = log.note
    assert log.append([], b"only duplicates").size == 5
    assert (log.note, log.state) == (note, b"only duplicates")
    assert open_log(store).state == b"only duplicates"
    assert len(store.published) == 2


def test_an_entry_too_long_harms_nothing() -> None:
    store = grown(5)
    log = open_log(store)
    with pytest.raises(EntryTooLong):
        log.append([b"fits", bytes(65_536)], b"never")
    assert log.state == b"5"
    log.append(entries(5, 6), b"6")
    assert check_log(store, SIGNER) == entries(0, 6)


WINDOWS: list[tuple[Operation, Apply, bool]] = [
    ("replace_state", "none", False),  # [A]
    ("replace_state", "all", True),  # [B], nothing of the tiles yet
    ("write", "none", True),  # [B]
    ("write", "part", True),  # [B]
    ("write", "all", True),  # [C]
    ("replace_checkpoint", "none", True),  # [C]
    ("replace_checkpoint", "all", True),  # [D]
    ("drop_partials", "none", True),  # [D]
    ("drop_partials", "all", True),  # [D]
]


@pytest.mark.parametrize(("operation", "apply", "committed"), WINDOWS)
@pytest.mark.parametrize("old", [0, 3, 256, 300])
def test_crash_window(operation: Operation, apply: Apply, committed: bool, old: int) -> None:
    store = grown(old) if old else grown()
    log = open_log(store)
    store.fault = Fault(operation, apply)
    with pytest.raises(Crash):
        log.append(entries(old, old + 400), b"new")
    with pytest.raises(LogBroken):
        log.append([], b"a broken log takes nothing")
    again = open_log(store)
    size = old + 400 if committed else old
    assert again.state == (b"new" if committed else b"%d" % old if old else b"")
    assert again.checkpoint.size == size
    assert check_log(store, SIGNER) == entries(0, size)
    # A consumer that was cut off sends other batches than the first time, in another order.
    other = [b"other %d" % number for number in range(77)]
    again.append(other, b"after")
    assert check_log(store, SIGNER) == entries(0, size) + other


@pytest.mark.parametrize(("operation", "apply", "committed"), WINDOWS)
def test_crash_while_moving_the_state_only(
    operation: Operation, apply: Apply, committed: bool
) -> None:
    store = grown(300)
    log = open_log(store)
    store.fault = Fault(operation, apply)
    try:
        log.append([], b"new")
    except Crash:
        assert open_log(store).state == (b"new" if committed else b"300")
    assert check_log(store, SIGNER) == entries(0, 300)


@pytest.mark.parametrize("apply", ["none", "all"])
@pytest.mark.parametrize("operation", ["replace_state", "replace_checkpoint"])
def test_crash_while_the_log_is_made(operation: Operation, apply: Apply) -> None:
    store = MemoryStore(fault=Fault(operation, apply))
    with pytest.raises(Crash):
        open_log(store)
    open_log(store).append(entries(0, 2), b"2")
    assert check_log(store, SIGNER) == entries(0, 2)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_a_tree_grows_across_crashes(data: st.DataObject) -> None:
    """A consumer that reads on from the committed state gets each entry in once, in order,
    whatever fails and however often, in recovery as well."""
    store = MemoryStore()
    source = entries(0, data.draw(st.integers(0, 700)))
    calm = st.none()
    store.fault = lambda operation: data.draw(
        st.one_of(calm, calm, calm, st.sampled_from(["none", "part", "all"]))
    )
    log, crashes = None, 0
    while log is None or log.state != b"%d" % len(source):
        try:
            log = log or open_log(store)
            at = int(log.state or b"0")
            upto = data.draw(st.integers(at, min(at + 300, len(source))))
            if crashes >= 8:
                store.fault, upto = (lambda operation: None), len(source)
            log.append(source[at:upto], b"%d" % upto)
        except Crash:
            log, crashes = None, crashes + 1
    store.fault = lambda operation: None
    assert check_log(store, SIGNER) == source


def test_a_second_sequencer_cannot_fork_the_log() -> None:
    """Locks aside: both are open on the same tree, and the slower one is stopped."""
    store = grown(10)
    one, two = open_log(store), open_log(store)
    one.append(entries(10, 20), b"20")
    with pytest.raises((CheckpointMoved, TileConflict)):
        two.append([b"fork"] * 10, b"fork")
    assert store.checkpoint == one.note
    assert check_log(store, SIGNER) == entries(0, 20)


def refuse(store: MemoryStore, error: type[Exception], signer: NoteSigner = SIGNER) -> None:
    before = (dict(store.files), store.state, store.checkpoint)
    with pytest.raises(error):
        Log.open(store, store, signer)
    assert (store.files, store.state, store.checkpoint) == before


def test_open_refuses_stores_that_do_not_belong_together() -> None:
    older, newer, other = grown(10), grown(10, 300, 400), grown(11)
    refuse(MemoryStore(older.files, None, older.checkpoint), StorageConflict)
    refuse(MemoryStore(older.files, older.state, None), StorageConflict)
    # The private folder restored from an older backup: going on would contradict what is out.
    refuse(MemoryStore(newer.files, older.state, newer.checkpoint), StorageConflict)
    refuse(MemoryStore(older.files, newer.state, older.checkpoint), StorageConflict)
    refuse(MemoryStore(older.files, other.state, older.checkpoint), StorageConflict)
    refuse(older, StorageConflict, NoteSigner.generate("other.example"))
    refuse(older, BadNote, NoteSigner.generate(SIGNER.name))


def test_open_refuses_damage() -> None:
    store = grown(300)
    assert store.state is not None
    for state in (store.state[:-1], b"", store.state.replace(b"300", b"301")):
        refuse(MemoryStore(store.files, state, store.checkpoint), BadRecord)
    files = dict(store.files)
    del files["tile/0/001.p/44"]
    refuse(MemoryStore(files, store.state, store.checkpoint), TileMissing)
    files["tile/0/001.p/44"] = bytes(44 * 32)
    refuse(MemoryStore(files, store.state, store.checkpoint), StorageConflict)
    files["tile/0/001.p/44"] = bytes(43 * 32)
    refuse(MemoryStore(files, store.state, store.checkpoint), TileMissing)


def test_recovery_refuses_a_tile_that_is_not_the_recorded_one() -> None:
    store = grown(3)
    store.fault = Fault("write", "none")
    with pytest.raises(Crash):
        open_log(store).append(entries(3, 5), b"5")
    store.files["tile/0/000.p/5"] = bytes(5 * 32)
    refuse(store, TileConflict)


def test_batches_of_any_sizes() -> None:
    def leaves(batches: Sequence[int]) -> bytes:
        store = grown(*(sum(batches[: n + 1]) for n in range(len(batches))))
        assert check_log(store, SIGNER) == entries(0, sum(batches))
        assert store.checkpoint is not None
        return store.checkpoint

    assert leaves([1000]) == leaves([1, 255, 256, 257, 231]) == leaves([999, 1])
