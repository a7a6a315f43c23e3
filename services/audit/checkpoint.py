"""Signs and opens checkpoints: C2SP signed-note and tlog-checkpoint, with Ed25519 keys.

Base64 is read strictly, so no bit of a note or key has a second meaning. Invariant: `open_note`
returns only text under at least one good signature of a key it was given; signatures of other
keys count for nothing, but a bad one of a given key refuses the note.
"""

import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from services.audit.merkle import HASH_SIZE

ED25519 = b"\x01"
MAX_NOTE = 1_000_000
MAX_SIGNATURES = 100
_SIGNATURE_MARK = "— "
_PRIVATE_PREFIX = "PRIVATE+KEY+"


class BadNote(ValueError):
    """The note is malformed or has no good signature of a known key. Believe none of it."""


class BadKey(ValueError):
    """The text is not a key in the signed-note form. Fix the configuration."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a log promises: its `size` and `root`, under its `origin`."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def text(self) -> str:
        root = base64.b64encode(self.root).decode()
        return "".join(f"{line}\n" for line in (self.origin, self.size, root, *self.extensions))

    @classmethod
    def parse(cls, text: str) -> "Checkpoint":
        """Reads checkpoint text that was taken out of an opened note.

        Raises:
            BadNote: it is not a checkpoint.
        """
        lines = text.split("\n")
        if len(lines) < 4 or lines[-1] or not all(lines[:-1]):
            raise BadNote("a checkpoint has an origin, a size and a root, each on a line")
        origin, size, root, *extensions = lines[:-1]
        if not (size.isascii() and size.isdigit()) or (size[0] == "0" and size != "0"):
            raise BadNote("the checkpoint's size is not a plain decimal number")
        root_hash = decode_base64(root, BadNote)
        if len(root_hash) != HASH_SIZE or len(size) > 19:
            raise BadNote("the checkpoint's size or root is out of range")
        return cls(origin, int(size), root_hash, tuple(extensions))


@dataclass(frozen=True, slots=True)
class NoteVerifier:
    """A public key with its name; `vkey` is the text form handed to auditors."""

    name: str
    public_key: bytes

    @property
    def key_id(self) -> bytes:
        return key_id(self.name, ED25519, self.public_key)

    @property
    def vkey(self) -> str:
        return render_key(self.name, self.key_id, ED25519, self.public_key)

    @classmethod
    def parse(cls, vkey: str) -> "NoteVerifier":
        """Raises BadKey unless `vkey` is an Ed25519 key whose id fits its name and key."""
        name, key = parse_vkey(vkey, ED25519)
        return cls(name, key)

    def verifies(self, text: bytes, signature: bytes) -> bool:
        return verifies(self.public_key, text, signature)


@dataclass(frozen=True, slots=True)
class NoteSigner:
    """A private key with its name. Its repr shows the name only."""

    name: str
    _key: Ed25519PrivateKey = field(repr=False)

    @classmethod
    def generate(cls, name: str) -> "NoteSigner":
        return cls(check_name(name), Ed25519PrivateKey.generate())

    @classmethod
    def parse(cls, skey: str) -> "NoteSigner":
        """Reads the text form of `skey`; raises BadKey."""
        name, key = parse_skey(skey, ED25519)
        return cls(name, key)

    def skey(self) -> str:
        """The private text form (as Go's sumdb/note writes it). Secret."""
        secret = self._key.private_bytes_raw()
        return _PRIVATE_PREFIX + render_key(self.name, self.verifier.key_id, ED25519, secret)

    @property
    def verifier(self) -> NoteVerifier:
        return NoteVerifier(self.name, self._key.public_key().public_bytes_raw())

    def sign(self, text: str) -> bytes:
        """The note: `text` (it ends in a newline) with this key's signature."""
        if not text.endswith("\n"):
            raise ValueError("the text of a note ends in a newline")
        signed = self._key.sign(text.encode())
        return f"{text}\n{signature_line(self.name, self.verifier.key_id, signed)}".encode()


def sign_note(text: str, signers: Iterable[NoteSigner]) -> bytes:
    """The note with the signature of each: as `NoteSigner.sign`, for a log that changes keys."""
    lines = [signer.sign(text).decode().removeprefix(text + "\n") for signer in signers]
    return f"{text}\n{''.join(lines)}".encode()


class Verifier(Protocol):
    """A public key that knows what its signatures cover."""

    @property
    def name(self) -> str: ...

    @property
    def key_id(self) -> bytes: ...

    def verifies(self, text: bytes, signature: bytes) -> bool:
        """Whether `signature`, without the key id, is this key's over the note's `text`."""
        ...


def open_note(note: bytes, verifiers: Iterable[Verifier]) -> str:
    """The text of `note`, its last newline included, if a known key signed it.

    Raises:
        BadNote: malformed, no known key signed it, or a known key's signature is wrong.
    """
    text, good = good_signatures(note, verifiers)
    if not good:
        raise BadNote("no known key signed the note")
    return text


def good_signatures(
    note: bytes, verifiers: Iterable[Verifier]
) -> tuple[str, dict[tuple[str, bytes], bytes]]:
    """The text, and by name and key id what the known keys among `verifiers` signed it with.

    Raises:
        BadNote: malformed, or a known key's signature is wrong.
    """
    text, lines = _split(note)
    known = {(verifier.name, verifier.key_id): verifier for verifier in verifiers}
    good: dict[tuple[str, bytes], bytes] = {}
    for line in lines:
        name, _, encoded = line.removeprefix(_SIGNATURE_MARK).partition(" ")
        signature = decode_base64(encoded, BadNote)
        if not line.startswith(_SIGNATURE_MARK) or not _is_name(name) or len(signature) < 5:
            raise BadNote("a signature line is malformed")
        verifier = known.get((name, signature[:4]))
        if verifier is None:
            continue
        if not verifier.verifies(text.encode(), signature[4:]):
            raise BadNote(f"the signature of {name} is wrong")
        good[name, signature[:4]] = signature[4:]
    return text, good


def open_checkpoint(note: bytes, verifiers: Iterable[Verifier], origin: str) -> Checkpoint:
    """The checkpoint in `note`, if a known key signed it for `origin`; raises BadNote."""
    checkpoint = Checkpoint.parse(open_note(note, verifiers))
    if checkpoint.origin != origin:
        raise BadNote(f"the checkpoint is of {checkpoint.origin!r}, not of {origin!r}")
    return checkpoint


def key_id(name: str, algorithm: bytes, public_key: bytes) -> bytes:
    return sha256(name.encode() + b"\n" + algorithm + public_key).digest()[:4]


def render_key(name: str, identity: bytes, algorithm: bytes, key: bytes) -> str:
    return f"{name}+{identity.hex()}+{base64.b64encode(algorithm + key).decode()}"


def signature_line(name: str, identity: bytes, signature: bytes) -> str:
    return f"{_SIGNATURE_MARK}{name} {base64.b64encode(identity + signature).decode()}\n"


def parse_vkey(vkey: str, algorithm: bytes) -> tuple[str, bytes]:
    """Name and public key; raises BadKey unless it is one of this algorithm and its id fits."""
    name, identity, key = _parse_key(vkey, algorithm)
    if identity != key_id(name, algorithm, key).hex():
        raise BadKey("the key id does not fit name and key")
    return name, key


def parse_skey(skey: str, algorithm: bytes) -> tuple[str, Ed25519PrivateKey]:
    """Name and private key; raises BadKey."""
    if not skey.startswith(_PRIVATE_PREFIX):
        raise BadKey("not a private key of a signed note")
    name, identity, secret = _parse_key(skey.removeprefix(_PRIVATE_PREFIX), algorithm)
    key = Ed25519PrivateKey.from_private_bytes(secret)
    if identity != key_id(name, algorithm, key.public_key().public_bytes_raw()).hex():
        raise BadKey("the private key's id does not fit")
    return name, key


def _parse_key(text: str, algorithm: bytes) -> tuple[str, str, bytes]:
    name, _, rest = text.partition("+")
    identity, _, encoded = rest.partition("+")
    key = decode_base64(encoded, BadKey)
    if key[:1] != algorithm or len(key) != 33:
        raise BadKey("not an Ed25519 key of the kind that is wanted here")
    return check_name(name), identity, key[1:]


def verifies(public_key: bytes, message: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def check_name(name: str) -> str:
    """`name` itself; raises BadKey if it cannot be a key name or origin."""
    if not _is_name(name):
        raise BadKey("a key name is not empty and has no space, plus sign or control character")
    return name


def _is_name(name: str) -> bool:
    return bool(name) and name.isprintable() and "+" not in name and not _has_space(name)


def _has_space(name: str) -> bool:
    return any(character.isspace() for character in name)


def text_of(note: bytes) -> str:
    """The text of a note whose signatures were checked before; raises BadNote."""
    return _split(note)[0]


def _split(note: bytes) -> tuple[str, list[str]]:
    try:
        whole = note.decode()
    except UnicodeDecodeError:
        raise BadNote("the note is not UTF-8") from None
    if len(note) > MAX_NOTE or any(c < " " and c != "\n" for c in whole):
        raise BadNote("the note is too long or has control characters")
    text, mark, signatures = whole.rpartition("\n\n")
    if not mark or not signatures.endswith("\n"):
        raise BadNote("the note has no signatures")
    lines = signatures[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise BadNote("the note has too many signatures")
    return text + "\n", lines


def decode_base64(encoded: str, error: type[ValueError]) -> bytes:
    """Base64 in its one canonical spelling."""
    try:
        raw = base64.b64decode(encoded.encode(), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise error("not base64") from None
    if base64.b64encode(raw).decode() != encoded:
        raise error("not base64 in its canonical form")
    return raw
