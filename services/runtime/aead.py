"""Boxes: bytes sealed with an AEAD under a key that the caller gives, bound to their place.

Pure but for randomness. Refuses to say why a box does not open. The cipher object of a key is used
again (making one costs a microsecond) by whoever brings the same key, and by nobody else; within 30
seconds it is dropped, so that of a destroyed key it is gone then, or at the next box of a process
that does nothing.

Invariant: suite, key id and associated data are all under the AEAD's tag, so a box that was moved,
relabelled or changed in one bit does not open.
"""

import os
from time import monotonic
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from services.runtime.errors import DataLoss
from services.runtime.sm import Sm4Gcm, Suite

# Both with a nonce of 12 octets and a tag of 16.
_CIPHERS: Final[dict[bytes, type[AESGCM] | type[Sm4Gcm]]] = {b"\x01": AESGCM, b"\x02": Sm4Gcm}
_OCTETS: Final[dict[Suite, bytes]] = {"aes": b"\x01", "sm": b"\x02"}
NONCE: Final = 12
_TAG: Final = 16
_DRAWN: Final = 256  # nonces drawn at once: a system call, and a thread hand-over, per 256 boxes
_KEPT: Final = 1024  # ciphers, of about 1 KB: two buckets and a route key of 300 tenants
_KEPT_SECONDS: Final = 30.0

_nonces: list[bytes] = []  # each is popped once; a child process draws its own
os.register_at_fork(after_in_child=_nonces.clear)


class SealBroken(DataLoss):
    """The box does not open here: wrong key, wrong place, changed octets or an unknown suite."""


class Sealed(NamedTuple):
    """A box and the name of its key; axbridge.type.v1.Sealed without the proto."""

    key_id: str
    box: bytes

    def __repr__(self) -> str:
        return f"Sealed({self.key_id!r}, {len(self.box)} octets)"


def associated(*parts: str | int) -> bytes:
    """The parts joined by 0x1f, unambiguously: none may contain it.

    Raises:
        SealBroken: one does, so no box can have been bound to them.
    """
    text = "\x1f".join([str(part) for part in parts])
    if text.count("\x1f") != len(parts) - 1:
        raise broken()
    return text.encode(errors="surrogatepass")


def seal(
    key: bytes, key_id: str, plaintext: bytes, associated: bytes, suite: Suite = "aes"
) -> Sealed:
    """The plaintext in a fresh box under the 32-octet key."""
    # Random nonces: NIST SP 800-38D §8.3 allows 2^32 boxes per key, 140 million a day for a month.
    return _sealed(_cipher(_OCTETS[suite], key), key_id, plaintext, associated, suite)


def seal_once(
    key: bytes, key_id: str, plaintext: bytes, associated: bytes, suite: Suite = "aes"
) -> Sealed:
    """As `seal`, under a key that seals nothing else: its cipher is not kept."""
    made = _CIPHERS[_OCTETS[suite]](key)
    return _sealed(made, key_id, plaintext, associated, suite)


def _sealed(
    cipher: AESGCM | Sm4Gcm, key_id: str, plaintext: bytes, associated: bytes, suite: Suite
) -> Sealed:
    nonce, octet = _nonce(), _OCTETS[suite]
    bound = _bound(octet, key_id.encode(), associated)
    return Sealed(key_id, octet + nonce + cipher.encrypt(nonce, plaintext, bound))


def open_sealed(key: bytes, sealed: Sealed, associated: bytes) -> bytes:
    """The plaintext.

    Raises:
        SealBroken: it was not sealed with this key, key id and associated data.
    """
    box, name = sealed.box, sealed.key_id.encode(errors="surrogatepass")
    octet = box[:1]
    if octet not in _CIPHERS or len(box) < 1 + NONCE + _TAG or len(name) > 255:
        raise broken()
    nonce, ciphertext = box[1 : 1 + NONCE], box[1 + NONCE :]
    try:
        return _cipher(octet, key).decrypt(nonce, ciphertext, _bound(octet, name, associated))
    except InvalidTag:
        raise broken() from None


def broken() -> SealBroken:
    """The one error for every box that does not open."""
    return SealBroken("SEAL_BROKEN", "a sealed value does not open")


def suite_of(box: bytes) -> Suite:
    """The suite that a box names. Raises SealBroken."""
    for suite, octet in _OCTETS.items():
        if box[:1] == octet:
            return suite
    raise broken()


def _bound(octet: bytes, name: bytes, associated: bytes) -> bytes:
    return octet + len(name).to_bytes(1) + name + associated  # the length keeps the two apart


class _Ciphers:
    """Ciphers by key. Two threads may make one twice, or drop one early: both are harmless."""

    def __init__(self) -> None:
        self._kept: dict[bytes, AESGCM | Sm4Gcm] = {}
        self._until = 0.0

    def of(self, octet: bytes, key: bytes) -> AESGCM | Sm4Gcm:
        """The key's cipher of a suite, kept or new."""
        name = octet + key
        if monotonic() < self._until:
            kept = self._kept.get(name)
            if kept is not None:
                return kept
        else:
            self._kept, self._until = {}, monotonic() + _KEPT_SECONDS
        if len(key) != 32:
            raise ValueError("a sealing key has 32 octets")
        if len(self._kept) >= _KEPT:
            self._kept = {}
        cipher = self._kept[name] = _CIPHERS[octet](key)
        return cipher


_cipher: Final = _Ciphers().of


class Cipher:
    """A key held ready under its id, by one who may hold the key: `seal` and `open_sealed` for the
    box alone, in half their time."""

    __slots__ = ("_bound", "_decrypt", "_encrypt", "_octet")

    def __init__(self, key: bytes, key_id: str, suite: Suite = "aes") -> None:
        self._octet = _OCTETS[suite]
        cipher = _cipher(self._octet, key)
        self._encrypt, self._decrypt = cipher.encrypt, cipher.decrypt
        self._bound = _bound(self._octet, key_id.encode(), b"")

    def seal(self, plaintext: bytes, associated: bytes) -> bytes:
        """The plaintext in a fresh box."""
        return self.seal_with(_nonce(), plaintext, associated)

    def seal_with(self, nonce: bytes, plaintext: bytes, associated: bytes) -> bytes:
        """The plaintext in the box of this nonce, which no other plaintext may ever get."""
        return self._octet + nonce + self._encrypt(nonce, plaintext, self._bound + associated)

    def open(self, box: bytes, associated: bytes) -> bytes:
        """The plaintext.

        Raises:
            SealBroken: it was not sealed with this key, key id and associated data.
        """
        if box[:1] != self._octet:
            raise broken()
        try:
            return self._decrypt(box[1:13], box[13:], self._bound + associated)
        except (InvalidTag, ValueError):  # ValueError: it is shorter than a nonce
            raise broken() from None


def _nonce() -> bytes:
    try:
        return _nonces.pop()
    except IndexError:
        return _draw()


def _draw() -> bytes:
    block = os.urandom(_DRAWN * NONCE)
    nonces = [block[at : at + NONCE] for at in range(0, len(block), NONCE)]
    nonce = nonces.pop()
    _nonces.extend(nonces)
    return nonce
