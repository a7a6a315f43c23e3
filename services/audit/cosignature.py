"""Cosignatures of witnesses over checkpoints: C2SP tlog-cosignature, cosignature/v1 with Ed25519.

A cosignature says: at this time, this was the newest tree of the log that I had seen, and it
continues all the earlier ones. Pure. Invariant: a log's key and a witness's key are never taken
for each other; their algorithm octets differ.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from services.audit.checkpoint import (
    check_name,
    good_signatures,
    key_id,
    parse_skey,
    parse_vkey,
    render_key,
    signature_line,
    verifies,
)

ALGORITHM = b"\x04"
_TIME = 8


@dataclass(frozen=True, slots=True)
class WitnessVerifier:
    """A witness's public key with its name."""

    name: str
    public_key: bytes

    @property
    def key_id(self) -> bytes:
        return key_id(self.name, ALGORITHM, self.public_key)

    @property
    def vkey(self) -> str:
        return render_key(self.name, self.key_id, ALGORITHM, self.public_key)

    @classmethod
    def parse(cls, vkey: str) -> "WitnessVerifier":
        """Raises BadKey."""
        name, key = parse_vkey(vkey, ALGORITHM)
        return cls(name, key)

    def verifies(self, text: bytes, signature: bytes) -> bool:
        time, signed = signature[:_TIME], signature[_TIME:]
        return len(time) == _TIME and verifies(self.public_key, _message(text, time), signed)


@dataclass(frozen=True, slots=True)
class WitnessSigner:
    """A witness's private key with its name. Its repr shows the name only."""

    name: str
    _key: Ed25519PrivateKey = field(repr=False)

    @classmethod
    def generate(cls, name: str) -> "WitnessSigner":
        return cls(check_name(name), Ed25519PrivateKey.generate())

    @classmethod
    def parse(cls, skey: str) -> "WitnessSigner":
        """Reads the text form of `skey`; raises BadKey."""
        name, key = parse_skey(skey, ALGORITHM)
        return cls(name, key)

    def skey(self) -> str:
        """The private text form. Secret."""
        secret = self._key.private_bytes_raw()
        return "PRIVATE+KEY+" + render_key(self.name, self.verifier.key_id, ALGORITHM, secret)

    @property
    def verifier(self) -> WitnessVerifier:
        return WitnessVerifier(self.name, self._key.public_key().public_bytes_raw())

    def cosign(self, text: str, seconds: int) -> str:
        """The line that goes below a note of this text; `seconds` since 1970 is when."""
        time = seconds.to_bytes(_TIME, "big")
        signed = self._key.sign(_message(text.encode(), time))
        return signature_line(self.name, self.verifier.key_id, time + signed)


def cosigners(note: bytes, verifiers: Iterable[WitnessVerifier]) -> dict[str, int]:
    """By vkey, when each of these witnesses cosigned `note`; those that did not are left out.

    Raises:
        BadNote: malformed, or one of their cosignatures is wrong.
    """
    known = {(verifier.name, verifier.key_id): verifier for verifier in verifiers}
    _, good = good_signatures(note, known.values())
    return {known[who].vkey: int.from_bytes(signed[:_TIME], "big") for who, signed in good.items()}


def _message(text: bytes, time: bytes) -> bytes:
    return b"cosignature/v1\ntime %d\n" % int.from_bytes(time, "big") + text
