"""Notes and checkpoints follow the C2SP texts; no altered bit of one is believed."""

import base64

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
    open_note,
)

ORIGIN = "axbridge.example/log"
SIGNER = NoteSigner.generate(ORIGIN)
CHECKPOINT = Checkpoint(ORIGIN, 70_000, bytes(range(32)))
NOTE = SIGNER.sign(CHECKPOINT.text())

# From the documentation of golang.org/x/mod/sumdb/note.
GO_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_SKEY = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
GO_NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
    "\n"
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngo"
    "tpRZb6KE6RyyBwJnAM=\n"
)


def test_example_of_sumdb_note() -> None:
    text, _, _ = GO_NOTE.rpartition("\n\n")
    signer = NoteSigner.parse(GO_SKEY)
    assert signer.verifier.vkey == GO_VKEY
    assert signer.skey() == GO_SKEY
    assert signer.sign(text + "\n") == GO_NOTE.encode()
    assert open_note(GO_NOTE.encode(), [NoteVerifier.parse(GO_VKEY)]) == text + "\n"


def test_checkpoint_text() -> None:
    root = base64.b64encode(CHECKPOINT.root).decode()
    assert CHECKPOINT.text() == f"{ORIGIN}\n70000\n{root}\n"
    assert open_checkpoint(NOTE, [SIGNER.verifier], ORIGIN) == CHECKPOINT
    extended = Checkpoint(ORIGIN, 0, bytes(32), ("more", "lines"))
    assert Checkpoint.parse(extended.text()) == extended
    with pytest.raises(BadNote, match="not of"):
        open_checkpoint(NOTE, [SIGNER.verifier], "another.example")


def test_unknown_signatures_count_for_nothing() -> None:
    other = NoteSigner.generate("other.example")
    extra = other.sign(CHECKPOINT.text()).rpartition(b"\n\n")[2]
    assert open_note(NOTE + extra, [SIGNER.verifier]) == CHECKPOINT.text()
    assert open_note(NOTE + extra, [other.verifier]) == CHECKPOINT.text()
    with pytest.raises(BadNote, match="no known key"):
        open_note(NOTE, [other.verifier])
    with pytest.raises(BadNote, match="no known key"):
        open_note(NOTE, [NoteSigner.generate(ORIGIN).verifier])


def test_a_wrong_signature_of_a_known_key_spoils_good_ones() -> None:
    other = NoteSigner.generate("other.example")
    wrong = other.sign("another text\n").rpartition(b"\n\n")[2]
    with pytest.raises(BadNote, match="is wrong"):
        open_note(NOTE + wrong, [SIGNER.verifier, other.verifier])


def test_every_flipped_bit_is_found() -> None:
    for bit in range(len(NOTE) * 8):
        flipped = bytearray(NOTE)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BadNote):
            open_note(bytes(flipped), [SIGNER.verifier])
    vkey = SIGNER.verifier.vkey.encode()
    for bit in range(len(vkey) * 8):
        flipped = bytearray(vkey)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BadKey):
            NoteVerifier.parse(bytes(flipped).decode(errors="replace"))


@given(st.binary(max_size=200))
def test_random_bytes_are_refused(junk: bytes) -> None:
    for note in (junk, NOTE + junk, b"a\n\n" + junk):
        if note != NOTE:
            with pytest.raises(BadNote):
                open_note(note, [SIGNER.verifier])


@pytest.mark.parametrize("note", [b"", b"x" * 1_000_001, b"\xff\n\n", NOTE + b"\n" + NOTE])
def test_malformed_notes(note: bytes) -> None:
    with pytest.raises(BadNote):
        open_note(note, [SIGNER.verifier])


def test_too_many_signatures() -> None:
    line = NOTE.rpartition(b"\n\n")[2]
    assert open_note(NOTE + line * 99, [SIGNER.verifier])
    with pytest.raises(BadNote, match="too many"):
        open_note(NOTE + line * 100, [SIGNER.verifier])


ROOT = base64.b64encode(bytes(32)).decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "o\n1\n",
        f"o\n1\n{ROOT}",
        f"o\n01\n{ROOT}\n",
        f"o\n-1\n{ROOT}\n",
        f"o\n٣\n{ROOT}\n",
        f"o\n99999999999999999999\n{ROOT}\n",
        f"\n1\n{ROOT}\n",
        f"o\n1\n{ROOT}\n\nx\n",
        "o\n1\nAAAA\n",
        "o\n1\n!\n",
        f"o\n1\n{ROOT[:-2]}B=\n",
    ],
)
def test_malformed_checkpoints(text: str) -> None:
    with pytest.raises(BadNote):
        Checkpoint.parse(text)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\u00a0b", "a\nb", "a\tb"])
def test_names_that_cannot_be(name: str) -> None:
    with pytest.raises(BadKey):
        NoteSigner.generate(name)


@pytest.mark.parametrize(
    "skey",
    [
        "",
        GO_VKEY,
        GO_SKEY[:-1],
        GO_SKEY.replace("c74f20a3", "c74f20a4"),
        "PRIVATE+KEY+PeterNeumann+c74f20a3+AQ==",
        "PRIVATE+KEY+PeterNeumann+c74f20a3+é",
    ],
)
def test_malformed_private_keys(skey: str) -> None:
    with pytest.raises(BadKey):
        NoteSigner.parse(skey)


def test_a_signer_does_not_show_its_key() -> None:
    assert repr(NoteSigner.parse(GO_SKEY)) == "NoteSigner(name='PeterNeumann')"
    with pytest.raises(ValueError, match="newline"):
        SIGNER.sign("no newline")
