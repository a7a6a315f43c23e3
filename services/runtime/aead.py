"""Boxes: bytes sealed with an AEAD under a key that the caller gives, bound to their place.

Pure but for randomness. Refuses to say why a box does not open, and keeps no cipher object beyond
a call (making one costs 0.75 µs), so no copy of a destroyed key waits in a cache here.

Invariant: suite, key id and associated data are all under the AEAD's tag, so a box that was moved,
relabelled or changed in one bit does not open.
"""

import os
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from services.runtime.errors import DataLoss

_AES: Final = b"\x01"  # suite 1: AES-256-GCM, nonce of 12 octets, tag of 16
_NONCE: Final = 12
_TAG: Final = 16


class SealBroken(DataLoss):
    """The box does not open here: wrong key, wrong place, changed octets or an unknown suite."""


@dataclass(frozen=True, slots=True)
class Sealed:
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


def seal(key: bytes, key_id: str, plaintext: bytes, associated: bytes) -> Sealed:
    """The plaintext in a fresh box under the 32-octet key."""
    # Random nonces: NIST SP 800-38D §8.3 allows 2^32 boxes per key, 140 million a day for a month.
    nonce = os.urandom(_NONCE)
    bound = _bound(key_id.encode(), associated)
    return Sealed(key_id, _AES + nonce + _cipher(key).encrypt(nonce, plaintext, bound))


def open_sealed(key: bytes, sealed: Sealed, associated: bytes) -> bytes:
    """The plaintext.

    Raises:
        SealBroken: it was not sealed with this key, key id and associated data.
    """
    box, name = sealed.box, sealed.key_id.encode(errors="surrogatepass")
    if box[:1] != _AES or len(box) < 1 + _NONCE + _TAG or len(name) > 255:
        raise broken()
    nonce, ciphertext = box[1 : 1 + _NONCE], box[1 + _NONCE :]
    try:
        return _cipher(key).decrypt(nonce, ciphertext, _bound(name, associated))
    except InvalidTag:
        raise broken() from None


def broken() -> SealBroken:
    """The one error for every box that does not open."""
    return SealBroken("SEAL_BROKEN", "a sealed value does not open")


def _bound(name: bytes, associated: bytes) -> bytes:
    return _AES + len(name).to_bytes(1) + name + associated  # the length keeps the two apart


def _cipher(key: bytes) -> AESGCM:
    if len(key) != 32:
        raise ValueError("a sealing key has 32 octets")
    return AESGCM(key)
