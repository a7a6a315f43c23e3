"""Offline proofs: one spelling, and no change that still checks out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.audit.checkpoint import BadNote, NoteSigner, NoteVerifier
from services.audit.log import Log
from services.audit.proof import BadProof
from services.audit.tlogproof import OfflineProof
from tests.unit.audit.memory import MemoryStore
from tests.unit.audit.test_log import SIGNER, grown


def proof_of(store: MemoryStore, leaf: int) -> OfflineProof:
    log = Log.open(store, store, SIGNER)
    return OfflineProof(leaf, log.tree.prover().inclusion(leaf), log.note)


@pytest.mark.parametrize(("size", "leaf"), [(1, 0), (2, 1), (300, 0), (300, 299), (700, 513)])
def test_a_file_shows_one_entry(size: int, leaf: int) -> None:
    proof = proof_of(grown(size), leaf)
    read = OfflineProof.parse(proof.render())
    assert read == proof
    signed = read.check(b"entry %d" % leaf, [SIGNER.verifier], SIGNER.name)
    assert signed.size == size
    with pytest.raises(BadProof):
        read.check(b"entry %d" % (leaf + 1), [SIGNER.verifier], SIGNER.name)
    with pytest.raises(BadNote):
        read.check(b"entry", [NoteSigner.generate(SIGNER.name).verifier], SIGNER.name)


DATA = proof_of(grown(300), 77).render()


@given(st.integers(0, len(DATA) * 8 - 1))
def test_no_bit_can_change(bit: int) -> None:
    changed = bytearray(DATA)
    changed[bit // 8] ^= 1 << bit % 8
    known: list[NoteVerifier] = [SIGNER.verifier]
    with pytest.raises((BadProof, BadNote)):
        OfflineProof.parse(bytes(changed)).check(b"entry 77", known, SIGNER.name)


@pytest.mark.parametrize(
    "text", ["", "c2sp.org/tlog-proof@v1\nindex 1\n", "c2sp.org/tlog-proof@v1\nindex 01\n\nnote"]
)
def test_what_is_no_proof_is_refused(text: str) -> None:
    with pytest.raises(BadProof):
        OfflineProof.parse(text.encode())


def test_the_form_is_that_of_the_specification() -> None:
    lines = DATA.decode().split("\n")
    assert lines[:2] == ["c2sp.org/tlog-proof@v1", "index 77"]
    assert lines[lines.index("") + 1] == SIGNER.name
