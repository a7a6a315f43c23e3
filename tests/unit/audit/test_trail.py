"""A trail over logs that grow, and over logs that do what no log may."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.audit.checkpoint import BadNote, NoteSigner
from services.audit.log import Log
from services.audit.merkle import TreeEdge
from services.audit.proof import BadProof
from services.audit.reader import TileMissing
from services.audit.tiles import BadBundle
from services.audit.trail import STEP, BadTrail, Contradiction, Trail
from tests.unit.audit.memory import MemoryStore
from tests.unit.audit.test_log import SIGNER, entries, grown

VKEY = SIGNER.verifier.vkey


def walk(trail: Trail, store: MemoryStore) -> list[bytes]:
    return [entry for _, part in trail.follow(store) for entry in part]


def test_gives_each_entry_once_however_the_log_grows() -> None:
    store, trail = MemoryStore(), Trail(VKEY)
    assert walk(trail, store) == []
    log = Log.open(store, store, SIGNER)
    seen: list[bytes] = []
    for low, high in [(0, 0), (0, 3), (3, 256), (256, 700), (700, STEP + 900)]:
        log.append(entries(low, high), b"")
        seen += walk(trail, store)
        assert seen == entries(0, high)
        trail = Trail.decode(trail.encode(), VKEY)
    assert (trail.edge.size, trail.note) == (STEP + 900, store.checkpoint)


def test_goes_on_where_it_was_broken_off() -> None:
    store, trail = grown(STEP + 10), Trail(VKEY)
    steps = trail.follow(store)
    assert [next(steps)[0], next(steps)[0]] == [0, STEP]
    again = Trail.decode(trail.encode(), VKEY)  # the second part was given out, but is not kept
    assert (again.edge.size, again.note) == (STEP, b"")
    assert walk(again, store) == entries(STEP, STEP + 10)


@pytest.mark.parametrize("later", [2, 300, 600])
def test_another_beginning_is_a_contradiction(later: int) -> None:
    trail = Trail(VKEY)
    walk(trail, grown(300))
    fork = MemoryStore()
    Log.open(fork, fork, SIGNER).append([b"other"] * later, b"")
    with pytest.raises(Contradiction):
        walk(trail, fork)
    assert trail.edge.size == 300


def test_a_checkpoint_that_is_gone_is_a_contradiction() -> None:
    trail = Trail(VKEY)
    walk(trail, grown(0))
    with pytest.raises(Contradiction):
        walk(trail, MemoryStore())


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_no_damaged_file_passes_and_nothing_wrong_is_given_out(data: st.DataObject) -> None:
    trail = Trail(VKEY)
    old = data.draw(st.sampled_from([0, 5, 256]))
    walk(trail, grown(old))
    store = grown(old, 700) if old else grown(700)
    name = data.draw(st.sampled_from(sorted(store.files)))
    content = bytearray(store.files[name])
    bit = data.draw(st.integers(0, len(content) * 8 - 1))
    content[bit // 8] ^= 1 << bit % 8
    store.files[name] = bytes(content)
    seen: list[bytes] = []
    try:
        for _, part in trail.follow(store):
            seen += part
    except (BadProof, BadBundle, TileMissing):
        assert seen == []
    else:  # a file it had no use for, such as a tile of hashes below what it recomputes
        assert seen == entries(old, 700)


def test_a_foreign_signature_is_refused() -> None:
    with pytest.raises(BadNote):
        walk(Trail(NoteSigner.generate(SIGNER.name).verifier.vkey), grown(3))


def test_a_damaged_state_is_refused() -> None:
    trail = Trail(VKEY)
    walk(trail, grown(300))
    kept = json.loads(trail.encode())
    changes: list[dict[str, object]] = [
        {"size": 299}, {"tails": []}, {"tails": "x"}, {"checkpoint": 1}, {"vkey": "x"},
    ]  # fmt: skip
    for change in changes:
        with pytest.raises(BadTrail):
            Trail.decode(json.dumps(kept | change).encode(), VKEY)
    for data in (b"", b"[]", b"{}"):
        with pytest.raises(BadTrail):
            Trail.decode(data, VKEY)
    with pytest.raises(ValueError, match="edge"):
        TreeEdge.of(-1, [])
