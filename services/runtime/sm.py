"""Suite `sm`: SM4 in GCM (GB/T 32907, RFC 8998) with the interface of `AESGCM`, from a key of 32
octets. Pure.

Refuses nothing but what does not authenticate. Invariant: the 16-octet SM4 key is derived by
HMAC-SM3 (GB/T 32905), so that no key serves two ciphers.
"""

import hmac
from typing import Final, Literal

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

# `aes`: AES-256-GCM and HMAC-SHA-256. `sm`: SM4-GCM and HMAC-SM3 (R19).
Suite = Literal["aes", "sm"]

_LABEL: Final = b"axbridge/sm4/v1"
_TAG: Final = 16


class Sm4Gcm:
    """SM4-GCM under a key of 32 octets. Safe to share between threads."""

    __slots__ = ("_algorithm",)

    def __init__(self, key: bytes) -> None:
        self._algorithm = algorithms.SM4(hmac.digest(key, _LABEL, "sm3")[:16])

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes) -> bytes:
        """Ciphertext and tag."""
        encryptor = Cipher(self._algorithm, modes.GCM(nonce)).encryptor()
        encryptor.authenticate_additional_data(associated_data)
        ciphertext = encryptor.update(data) + encryptor.finalize()
        return ciphertext + encryptor.tag

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes) -> bytes:
        """The plaintext. Raises InvalidTag."""
        mode = modes.GCM(nonce, data[-_TAG:])
        decryptor = Cipher(self._algorithm, mode).decryptor()
        decryptor.authenticate_additional_data(associated_data)
        return decryptor.update(data[:-_TAG]) + decryptor.finalize()
