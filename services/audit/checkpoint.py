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
        root_hash = _decode(root, BadNote)
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
        return sha256(self.name.encode() + b"\n" + ED25519 + self.public_key).digest()[:4]

    @property
    def vkey(self) -> str:
        encoded = base64.b64encode(ED25519 + self.public_key).decode()
        return f"{self.name}+{self.key_id.hex()}+{encoded}"

    @classmethod
    def parse(cls, vkey: str) -> "NoteVerifier":
        """Raises BadKey unless `vkey` is an Ed25519 key whose id fits its name and key."""
        name, _, rest = vkey.partition("+")
        key_id, _, encoded = rest.partition("+")
        key = _decode(encoded, BadKey)
        verifier = cls(check_name(name), key[1:])
        if key[:1] != ED25519 or len(key) != 33 or key_id != verifier.key_id.hex():
            raise BadKey("not an Ed25519 vkey, or its key id does not fit")
        return verifier

    def verifies(self, text: bytes, signature: bytes) -> bool:
        try:
            Ed25519PublicKey.from_public_bytes(self.public_key).verify(signature, text)
        except InvalidSignature:
            return False
        return True


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
        if not skey.startswith(_PRIVATE_PREFIX):
            raise BadKey("not a private key of a signed note")
        name, _, rest = skey.removeprefix(_PRIVATE_PREFIX).partition("+")
        key_id, _, encoded = rest.partition("+")
        key = _decode(encoded, BadKey)
        if key[:1] != ED25519 or len(key) != 33:
            raise BadKey("not an Ed25519 private key")
        signer = cls(check_name(name), Ed25519PrivateKey.from_private_bytes(key[1:]))
        if key_id != signer.verifier.key_id.hex():
            raise BadKey("the private key's id does not fit")
        return signer

    def skey(self) -> str:
        """The private text form (as Go's sumdb/note writes it). Secret."""
        encoded = base64.b64encode(ED25519 + self._key.private_bytes_raw()).decode()
        return f"{_PRIVATE_PREFIX}{self.name}+{self.verifier.key_id.hex()}+{encoded}"

    @property
    def verifier(self) -> NoteVerifier:
        return NoteVerifier(self.name, self._key.public_key().public_bytes_raw())

    def sign(self, text: str) -> bytes:
        """The note: `text` (it ends in a newline) with this key's signature."""
        if not text.endswith("\n"):
            raise ValueError("the text of a note ends in a newline")
        signature = self.verifier.key_id + self._key.sign(text.encode())
        encoded = base64.b64encode(signature).decode()
        return f"{text}\n{_SIGNATURE_MARK}{self.name} {encoded}\n".encode()


def open_note(note: bytes, verifiers: Iterable[NoteVerifier]) -> str:
    """The text of `note`, its last newline included, if a known key signed it.

    Raises:
        BadNote: malformed, no known key signed it, or a known key's signature is wrong.
    """
    text, lines = _split(note)
    known = {(verifier.name, verifier.key_id): verifier for verifier in verifiers}
    good = 0
    for line in lines:
        name, _, encoded = line.removeprefix(_SIGNATURE_MARK).partition(" ")
        signature = _decode(encoded, BadNote)
        if not line.startswith(_SIGNATURE_MARK) or not _is_name(name) or len(signature) < 5:
            raise BadNote("a signature line is malformed")
        verifier = known.get((name, signature[:4]))
        if verifier is None:
            continue
        if not verifier.verifies(text.encode(), signature[4:]):
            raise BadNote(f"the signature of {name} is wrong")
        good += 1
    if not good:
        raise BadNote("no known key signed the note")
    return text


def open_checkpoint(note: bytes, verifiers: Iterable[NoteVerifier], origin: str) -> Checkpoint:
    """The checkpoint in `note`, if a known key signed it for `origin`; raises BadNote."""
    checkpoint = Checkpoint.parse(open_note(note, verifiers))
    if checkpoint.origin != origin:
        raise BadNote(f"the checkpoint is of {checkpoint.origin!r}, not of {origin!r}")
    return checkpoint


def check_name(name: str) -> str:
    """`name` itself; raises BadKey if it cannot be a key name or origin."""
    if not _is_name(name):
        raise BadKey("a key name is not empty and has no space, plus sign or control character")
    return name


def _is_name(name: str) -> bool:
    return bool(name) and name.isprintable() and "+" not in name and not _has_space(name)


def _has_space(name: str) -> bool:
    return any(character.isspace() for character in name)


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


def _decode(encoded: str, error: type[ValueError]) -> bytes:
    """Base64 in its one canonical spelling."""
    try:
        raw = base64.b64decode(encoded.encode(), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise error("not base64") from None
    if base64.b64encode(raw).decode() != encoded:
        raise error("not base64 in its canonical form")
    return raw
