"""A box opens with its key, key id and associated data, and with nothing else."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from services.runtime import aead
from services.runtime.aead import (
    Cipher,
    SealBroken,
    Sealed,
    associated,
    open_sealed,
    seal,
    seal_once,
)
from services.runtime.sm import Suite

KEY = bytes(range(32))
KEY_IDS = st.text(st.characters(codec="ascii"), max_size=40)
DATA = st.binary(max_size=60)


SUITES: st.SearchStrategy[Suite] = st.sampled_from(["aes", "sm"])


@settings(deadline=None)
@given(KEY_IDS, DATA, DATA, SUITES)
def test_opens_what_it_sealed(key_id: str, plaintext: bytes, data: bytes, suite: Suite) -> None:
    sealed = seal(KEY, key_id, plaintext, data, suite)
    assert open_sealed(KEY, sealed, data) == plaintext
    assert len(sealed.box) == 1 + 12 + len(plaintext) + 16
    assert seal(KEY, key_id, plaintext, data).box != sealed.box  # the nonce is fresh


def test_the_box_is_what_the_contract_says() -> None:
    sealed = seal(KEY, "route/acme/20260101", b"x", b"place")
    bound = b"\x01" + b"\x13" + b"route/acme/20260101" + b"place"
    assert sealed.box[0] == 1
    assert AESGCM(KEY).decrypt(sealed.box[1:13], sealed.box[13:], bound) == b"x"


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=30), DATA, SUITES, st.data())
def test_any_flipped_bit_breaks_it(
    plaintext: bytes, place: bytes, suite: Suite, data: st.DataObject
) -> None:
    sealed = seal(KEY, "purge/acme/202607", plaintext, place, suite)
    bit = data.draw(st.integers(0, 8 * len(sealed.box) - 1))
    refused(KEY, Sealed(sealed.key_id, flipped(sealed.box, bit)), place)
    bit = data.draw(st.integers(0, 8 * len(sealed.key_id) - 1))
    key_id = flipped(sealed.key_id.encode(), bit).decode("latin-1")
    refused(KEY, Sealed(key_id, sealed.box), place)
    refused(flipped(KEY, data.draw(st.integers(0, 255))), sealed, place)
    if place:
        refused(KEY, sealed, flipped(place, data.draw(st.integers(0, 8 * len(place) - 1))))


@settings(deadline=None)
@given(st.text(max_size=10), DATA, DATA)
def test_random_octets_do_not_open(key_id: str, box: bytes, place: bytes) -> None:
    refused(KEY, Sealed(key_id, box), place)
    refused(KEY, Sealed(key_id, b"\x01" + box), place)
    refused(KEY, Sealed(key_id, b"\x02" + box), place)


def test_octets_cannot_move_between_key_id_and_place() -> None:
    sealed = seal(KEY, "ab", b"x", b"c")
    refused(KEY, Sealed("a", sealed.box), b"bc")
    refused(KEY, Sealed("abc", sealed.box), b"")
    refused(KEY, Sealed("a" * 300, sealed.box), b"")
    refused(KEY, Sealed("\ud800", sealed.box), b"")


@settings(deadline=None)
@given(KEY_IDS, DATA, DATA, SUITES, st.data())
def test_a_cipher_and_the_functions_are_one(
    key_id: str, plaintext: bytes, place: bytes, suite: Suite, data: st.DataObject
) -> None:
    cipher = Cipher(KEY, key_id, suite)
    box = cipher.seal(plaintext, place)
    assert open_sealed(KEY, Sealed(key_id, box), place) == plaintext
    assert cipher.open(seal(KEY, key_id, plaintext, place, suite).box, place) == plaintext
    again = cipher.seal_with(box[1:13], plaintext, place)
    assert again == box
    bad = flipped(box, data.draw(st.integers(0, 8 * len(box) - 1)))
    for opener, octets in (
        (cipher, bad),
        (cipher, box[:20]),
        (Cipher(KEY, key_id + "x", suite), box),
    ):
        with pytest.raises(SealBroken):
            opener.open(octets, place)


def test_a_cipher_that_seals_once_is_not_kept() -> None:
    key = os.urandom(32)
    sealed = seal_once(key, "k", b"x", b"place")
    assert b"\x01" + key not in aead._cipher.__self__._kept  # type: ignore[attr-defined]
    assert open_sealed(key, sealed, b"place") == b"x"


def test_keys_have_32_octets() -> None:
    for key in (b"", bytes(16), bytes(33)):
        with pytest.raises(ValueError, match="32 octets"):
            seal(key, "k", b"", b"")


def test_no_nonce_comes_twice_in_threads_and_children() -> None:
    """Nonces are drawn in blocks; threads share a block, a forked child does not."""
    seal(KEY, "k", b"", b"")
    with ThreadPoolExecutor(4) as pool:
        boxes = list(pool.map(lambda _: seal(KEY, "k", b"", b"").box, range(2000)))
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, b"".join(seal(KEY, "k", b"", b"").box for _ in range(100)))
        os._exit(0)
    os.waitpid(child, 0)
    octets = os.read(reading, 100 * 29)
    os.close(reading)
    os.close(writing)
    boxes += [octets[at : at + 29] for at in range(0, len(octets), 29)]
    boxes += [seal(KEY, "k", b"", b"").box for _ in range(100)]
    assert len({box[1:13] for box in boxes}) == len(boxes) == 2200


def test_a_cipher_is_kept_for_its_key_only_and_not_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr(aead, "monotonic", lambda: now)
    ciphers = aead._Ciphers()
    first = ciphers.of(b"\x01", KEY)
    assert ciphers.of(b"\x01", bytes(bytearray(KEY))) is first
    assert ciphers.of(b"\x01", bytes(32)) is not first
    now = 31.0
    assert ciphers.of(b"\x01", bytes(32)) is not first
    assert b"\x01" + KEY not in ciphers._kept
    for number in range(3000):
        ciphers.of(b"\x01", number.to_bytes(32))
    assert len(ciphers._kept) <= 1024


PARTS = st.lists(st.text(max_size=6) | st.integers(), min_size=1, max_size=5)


@settings(deadline=None)
@given(PARTS, PARTS)
def test_associated_data_is_unambiguous(ours: list[str | int], theirs: list[str | int]) -> None:
    assume("\x1f" not in "".join(map(str, ours + theirs)))
    same = [str(part) for part in ours] == [str(part) for part in theirs]
    assert (associated(*ours) == associated(*theirs)) == same


def test_associated_data_refuses_its_own_separator() -> None:
    assert associated("call", 7, "r1") == b"call\x1f7\x1fr1"
    for parts in (("a\x1fb",), ("a", "\x1f"), ()):
        with pytest.raises(SealBroken):
            associated(*parts)


def test_repr_shows_no_octet_of_the_box() -> None:
    assert repr(Sealed("k", b"\x01+8613812345678")) == "Sealed('k', 15 octets)"


def flipped(octets: bytes, bit: int) -> bytes:
    changed = bytearray(octets)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def refused(key: bytes, sealed: Sealed, place: bytes) -> None:
    with pytest.raises(SealBroken) as caught:
        open_sealed(key, sealed, place)
    assert str(caught.value) == "SEAL_BROKEN"
    assert caught.value.__cause__ is None
