"""Cosignatures: what they cover, and that keys of logs and witnesses are told apart."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.audit.checkpoint import (
    BadKey,
    BadNote,
    Checkpoint,
    NoteSigner,
    NoteVerifier,
    open_checkpoint,
)
from services.audit.cosignature import WitnessSigner, WitnessVerifier, cosigners
from services.audit.merkle import EMPTY_ROOT

LOG = NoteSigner.generate("axbridge.example/log")
ONE, TWO = (WitnessSigner.generate(f"witness.example/{n}") for n in (1, 2))
TEXT = Checkpoint(LOG.name, 0, EMPTY_ROOT).text()
NOTE = LOG.sign(TEXT)
LINE = ONE.cosign(TEXT, 1_700_000_000)


def test_each_known_witness_counts_once() -> None:
    note = NOTE + LINE.encode() + LINE.encode() + TWO.cosign(TEXT, 5).encode()
    assert cosigners(note, [ONE.verifier]) == {ONE.verifier.vkey: 1_700_000_000}
    assert cosigners(note, [ONE.verifier, TWO.verifier])[TWO.verifier.vkey] == 5
    assert cosigners(NOTE, [ONE.verifier]) == {}
    # The log's own signature still opens the note.
    assert open_checkpoint(note, [LOG.verifier], LOG.name).size == 0


@given(st.integers(0, len(LINE.encode()) * 8 - 1))
def test_no_bit_can_change(bit: int) -> None:
    changed = bytearray(LINE.encode())
    changed[bit // 8] ^= 1 << bit % 8
    with contextlib.suppress(BadNote):
        assert cosigners(NOTE + bytes(changed), [ONE.verifier]) == {}  # now another's signature


def test_a_cosignature_is_of_one_text_and_time() -> None:
    other = Checkpoint(LOG.name, 1, bytes(32)).text()
    with pytest.raises(BadNote):
        cosigners(LOG.sign(other) + LINE.encode(), [ONE.verifier])


def test_keys_have_one_text_form() -> None:
    assert WitnessSigner.parse(ONE.skey()).skey() == ONE.skey()
    assert WitnessVerifier.parse(ONE.verifier.vkey) == ONE.verifier
    assert ONE.skey() not in repr(ONE)
    for wrong in (LOG.verifier.vkey, ONE.verifier.vkey[:-2] + "==", "", "w+1+2"):
        with pytest.raises(BadKey):
            WitnessVerifier.parse(wrong)
    with pytest.raises(BadKey):
        NoteVerifier.parse(ONE.verifier.vkey)
    with pytest.raises(BadKey):
        WitnessSigner.parse(LOG.skey())
