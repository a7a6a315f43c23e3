"""What a witness cosigns and what it refuses, and that no two cosigned trees contradict."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.audit.checkpoint import Checkpoint, NoteSigner
from services.audit.cosignature import WitnessSigner, cosigners
from services.audit.log import Log
from services.audit.witnessing import (
    SIZE,
    BadRequest,
    Seen,
    Witness,
    parse_body,
    render_body,
)
from tests.unit.audit.memory import MemoryStore
from tests.unit.audit.test_log import SIGNER, entries

WITNESS = WitnessSigner.generate("witness.example")
NOW = 1_700_000_000


@dataclass
class MemoryWitnessStore:
    """WitnessStore as its contract says it; `between` runs before a replacement, once."""

    seen: dict[str, Seen] = field(default_factory=dict)
    between: Seen | None = None

    def newest(self, origin: str) -> Seen:
        return self.seen.get(origin, Seen())

    def replace(self, origin: str, expected: Seen, new: Seen) -> bool:
        if self.between is not None:
            self.seen[origin], self.between = self.between, None
        if self.newest(origin) != expected:
            return False
        self.seen[origin] = new
        return True


class Grown:
    """A log that grew through `sizes`, and the bodies a client would send for it."""

    def __init__(self, *sizes: int, salt: bytes = b"") -> None:
        store = MemoryStore()
        self.log = Log.open(store, store, SIGNER)
        self.notes = {0: self.log.note}
        for low, high in zip((0, *sizes), sizes, strict=False):
            self.log.append([salt + entry for entry in entries(low, high)], b"")
            self.notes[high] = self.log.note

    def body(self, old: int, new: int) -> bytes:
        prover = self.log.tree.prover(new)
        return render_body(old, prover.consistency(old) if old <= new else [], self.notes[new])


@pytest.fixture
def store() -> MemoryWitnessStore:
    return MemoryWitnessStore()


@pytest.fixture
def witness(store: MemoryWitnessStore) -> Witness:
    return Witness(WITNESS, [SIGNER.verifier], store, lambda: NOW)


def test_cosigns_a_log_that_grows(witness: Witness, store: MemoryWitnessStore) -> None:
    log = Grown(3, 300, 700)
    for old, new in [(0, 0), (0, 3), (3, 300), (300, 300), (300, 700)]:
        answer = witness.add_checkpoint(log.body(old, new))
        assert answer.status == 200, answer
        cosigned = cosigners(log.notes[new] + answer.body.encode(), [WITNESS.verifier])
        assert cosigned == {WITNESS.verifier.vkey: NOW}
    assert store.newest(SIGNER.name).size == 700


def test_says_what_it_has_seen(witness: Witness, store: MemoryWitnessStore) -> None:
    log = Grown(3, 300)
    witness.add_checkpoint(log.body(0, 3))
    for old in (0, 2):
        answer = witness.add_checkpoint(log.body(old, 300))
        assert (answer.status, answer.body, answer.content_type) == (409, "3\n", SIZE)
    assert store.newest(SIGNER.name).size == 3


def test_refuses_a_fork_and_a_smaller_tree(witness: Witness, store: MemoryWitnessStore) -> None:
    log, fork = Grown(3, 300, 400), Grown(3, 300, 400, salt=b"x")
    witness.add_checkpoint(log.body(0, 300))
    before = dict(store.seen)
    assert witness.add_checkpoint(fork.body(300, 400)).status == 422
    assert witness.add_checkpoint(fork.body(300, 300)).status == 409
    assert witness.add_checkpoint(log.body(300, 3)).status == 400  # old above new
    assert witness.add_checkpoint(log.body(3, 3)).status == 409
    assert witness.add_checkpoint(render_body(300, [], log.notes[400])).status == 422
    assert store.seen == before


def test_another_request_between_check_and_step(
    witness: Witness, store: MemoryWitnessStore
) -> None:
    log = Grown(3, 300)
    witness.add_checkpoint(log.body(0, 3))
    store.between = Seen(200, bytes(32))
    answer = witness.add_checkpoint(log.body(3, 300))
    assert (answer.status, answer.body) == (409, "200\n")


def test_refuses_what_it_does_not_know(witness: Witness) -> None:
    stranger = NoteSigner.generate("stranger.example")
    text = Checkpoint(stranger.name, 0, Seen().root).text()
    assert witness.add_checkpoint(render_body(0, [], stranger.sign(text))).status == 404
    other = NoteSigner.generate(SIGNER.name)
    text = Checkpoint(SIGNER.name, 0, Seen().root).text()
    assert witness.add_checkpoint(render_body(0, [], other.sign(text))).status == 403
    assert (
        witness.add_checkpoint(render_body(0, [], SIGNER.sign(f"{SIGNER.name}\n0\n"))).status == 400
    )


@pytest.mark.parametrize(
    "body",
    [
        b"", b"old 0\n", b"old x\n\nnote", b"new 0\n\nnote", b"old -1\n\nnote", b"\xff\n\nnote",
        b"old 0\n!\n\nnote", b"old 0\nAAAA\n\nnote", b"old " + b"9" * 20 + b"\n\nnote",
        b"old 0\n" + b"A" * 43 + b"=\n" * 64 + b"\nnote", b"old 0\n\n\xff",
    ],
)  # fmt: skip
def test_other_bodies_are_bad_requests(witness: Witness, body: bytes) -> None:
    assert witness.add_checkpoint(body).status in (400, 404)


def test_sixty_three_lines_are_enough_and_the_most() -> None:
    assert parse_body(render_body(1, [bytes(32)] * 63, b"note"))[0] == 1
    with pytest.raises(BadRequest):
        parse_body(render_body(1, [bytes(32)] * 64, b"note"))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 40), st.integers(0, 40)), max_size=12))
def test_cosigned_trees_never_contradict(asked: list[tuple[bool, int, int]]) -> None:
    """Whatever is asked in whatever order, of the log or of its fork: all that was cosigned is one
    line of trees."""
    sizes = tuple(range(1, 41))
    logs = {False: Grown(*sizes), True: Grown(*sizes, salt=b"x")}
    witness = Witness(WITNESS, [SIGNER.verifier], MemoryWitnessStore(), lambda: NOW)
    cosigned: list[tuple[bool, int]] = []
    for fork, old, new in asked:
        if witness.add_checkpoint(logs[fork].body(min(old, new), new)).status == 200:
            cosigned.append((fork, new))
    assert [size for _, size in cosigned] == sorted(size for _, size in cosigned)
    assert len({fork for fork, size in cosigned if size > 0}) <= 1
