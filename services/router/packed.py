"""A decision as it stands in the journal: packed into fixed places, sealed once. Pure.

What a worker does per call is kept to this; the event is made of it by whoever ships it. Refuses to
open what was moved: journal, sequence and call are under the box's tag. Invariant: no number and
no tag stands in clear in a journal.
"""

import hmac
import struct
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from services.router.domain import Decision, Refusal
from services.router.rule import treatment
from services.runtime.errors import DataLoss
from services.runtime.keyring import KeyRing

# Time, age of the view, version, most minutes, reason, cause, verdict and calling side (4 bits
# each); then lengths of number, trunk, tenant, binding, industry id, caller's tag and caller, which
# follow.
_FIXED: Final = struct.Struct(">QQQHBBBBBBBHBB")
_pack: Final = _FIXED.pack
_NOT_BOUND: Final = Refusal.NOT_BOUND


class Packed(NamedTuple):
    """What the journal keeps of a decision; `reason` 0: connected. `caller`, `tag` are personal."""

    time_ms: int
    age_ms: int
    version: int
    max_call_minutes: int
    reason: int
    cause: int
    calling_side: int
    number: str
    trunk: str
    tenant: str
    binding: str
    industry_id: str
    tag: bytes
    caller: str
    verdict: int = 0

    def __repr__(self) -> str:
        return f"<Packed {self.tenant}/{self.binding} reason {self.reason}>"


def pack(decision: Decision) -> tuple[bytes, bytes]:
    """The frame's key, which is carrier and call id, and all else of the decision. Without a tenant
    there is no key to keep the caller under, and it is left out."""
    (
        (carrier, call_id, _, _, trunk, _, _),
        time_ms,
        age_ms,
        number,
        tenant,
        entry,
        refusal,
        _,
        caller,
        tag,
        verdict,
        _,
    ) = decision
    if not tenant:
        caller, tag = "", b""
    if refusal is None:
        reason = cause = 0
    else:
        reason, cause = refusal, treatment(refusal, entry).cause
        if refusal is _NOT_BOUND and entry is not None and not entry.caller_side:
            entry = None  # the caller is on no binding, whosever announcement was played
    if entry is None:
        version = minutes = side = 0
        binding = industry = ""
    else:
        _, binding, version, _, side, _, _, minutes, _, _, industry, *_ = entry
    text = f"{number}{trunk}{tenant}{binding}{industry}"
    a, b, c, d, e = len(number), len(trunk), len(tenant), len(binding), len(industry)
    if not text.isascii():  # lengths are of octets
        a, b, c, d, e = (len(t.encode()) for t in (number, trunk, tenant, binding, industry))
    fixed = _pack(
        time_ms, age_ms, version, minutes, reason, cause, verdict << 4 | side, a, b, c, d, e,
        len(tag), len(caller),
    )  # fmt: skip
    return f"{carrier}/{call_id}".encode(), fixed + text.encode() + tag + caller.encode()


def unpack(data: bytes) -> Packed:
    """What `pack` made.

    Raises:
        Unreadable: it is something else.
    """
    try:
        (time_ms, age_ms, version, minutes, reason, cause, side,
         *lengths) = _FIXED.unpack_from(data)  # fmt: skip
        parts, at = [], _FIXED.size
        for length in lengths:
            parts.append(data[at : at + length])
            at += length
        if at != len(data):
            raise unreadable()
        number, trunk, tenant, binding, industry, tag, caller = parts
        return Packed(
            time_ms, age_ms, version, minutes, reason, cause, side & 15, number.decode(),
            trunk.decode(), tenant.decode(), binding.decode(), industry.decode(), tag,
            caller.decode(), side >> 4,
        )  # fmt: skip
    except (struct.error, UnicodeDecodeError):
        raise unreadable() from None


class Unreadable(DataLoss):
    """A journal's entry that is whole and does not open: another key, another place, or altered."""


def unreadable() -> Unreadable:
    """The one error for all of them."""
    return Unreadable("SEAL_BROKEN", "a journal's entry does not open")


class JournalCipher:
    """AES-256-GCM under a key of this journal's own, with the sequence for a nonce: a sequence is
    written once, and a journal's name is never used again. (An entry that was sealed and found no
    room is forgotten, and its number goes to the next; nobody has seen the first box.)

    Holds its key for its own life: what waits in a journal is erased by shipping it.
    """

    def __init__(self, keyring: KeyRing, journal: str) -> None:
        root = keyring.derive("journal", b"seal/v1")
        cipher = AESGCM(hmac.digest(root, journal.encode(), "sha256"))
        self.encrypt, self._decrypt = cipher.encrypt, cipher.decrypt  # of a nonce of 12 octets

    def seal(self, sequence: int, packed: bytes, call: bytes) -> bytes:
        """The box for this place; `call` is the frame's key."""
        return self.encrypt(sequence.to_bytes(12), packed, call)

    def open(self, sequence: int, box: bytes, call: bytes) -> bytes:
        """What was sealed.

        Raises:
            Unreadable: not here, or not so.
        """
        try:
            return self._decrypt(sequence.to_bytes(12), box, call)
        except (InvalidTag, ValueError):
            raise unreadable() from None
