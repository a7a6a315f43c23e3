"""Who may read what: tags, purge buckets, evidence copies and route copies.

docs/design/sealing.md is its specification; the boxes themselves are `services.runtime.aead`,
whose names are exported here too. Pure but for randomness, the clock (the day of a writer key) and
the `KeyRing`. Refuses to keep a plaintext or a number.

Invariant: every use of a ring's key asks the ring again, so destroying the key reaches all of this
within the ring's second.
"""

import hashlib
import hmac
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Final, Literal

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from services.runtime.aead import (
    SealBroken,
    Sealed,
    associated,
    broken,
    open_sealed,
    seal,
    seal_once,
    suite_of,
)
from services.runtime.clock import Clock, SystemClock
from services.runtime.keyring import KeyRing
from services.runtime.sm import Suite

__all__ = [
    "EvidenceWriter",
    "PurgeSealer",
    "SealBroken",
    "Sealed",
    "Tagger",
    "associated",
    "bucket_month",
    "evidence_bucket",
    "month_begin",
    "month_of",
    "open_evidence",
    "open_sealed",
    "purge_key_id",
    "record_key",
    "route_associated",
    "seal",
]  # fmt: skip

_BUCKET: Final = r"purge/[^/]+/\d{6}"
_PURGE_ID: Final = re.compile(_BUCKET, re.ASCII)
_EVIDENCE_ID: Final = re.compile(rf"evidence(2?)/([0-9a-f]{{8}})/({_BUCKET})", re.ASCII)
_NO_SALT: Final = bytes(32)
_HASHES: Final[dict[Suite, str]] = {"aes": "sha256", "sm": "sm3"}


class Tagger:
    """Blind tags: equal for equal values of one tenant, meaningless without its tag key."""

    def __init__(self, keyring: KeyRing) -> None:
        self._keyring = keyring

    def party(self, tenant: str, e164: str) -> bytes:
        """The 16-octet tag of a real number. 10^11 numbers: 128 bits never collide by chance."""
        return self._tag(tenant, f"axbridge/party/v1\x1f{tenant}\x1f{e164}")

    def order(self, tenant: str, order_id: str) -> bytes:
        """The 16-octet tag of an order id."""
        return self._tag(tenant, f"axbridge/order/v1\x1f{tenant}\x1f{order_id}")

    def _tag(self, tenant: str, message: str) -> bytes:
        key = self._keyring.derive(f"tags/{tenant}", b"tag/v1")
        return hmac.digest(key, message.encode(), _HASHES[self._keyring.suite(tenant)])[:16]


def purge_key_id(tenant: str, end: datetime, retention_months: int = 6) -> str:
    """The bucket `purge/<tenant>/<yyyymm>`: the UTC month in which end + retention ends.

    Its key may be destroyed once that month is over, so the retention is never cut short.
    """
    return _purge_key_id(tenant, month_of(end) + retention_months)


@lru_cache(maxsize=1024)
def _purge_key_id(tenant: str, month: int) -> str:
    return f"purge/{tenant}/{month_begin(month):%Y%m}"


def bucket_month(key_id: str) -> int:
    """The month in a bucket's name, as `month_of` counts. Raises ValueError."""
    return int(key_id[-6:-2]) * 12 + int(key_id[-2:]) - 1


def month_of(moment: datetime) -> int:
    """The UTC month as 12 x year + month - 1, so that months can be counted."""
    day = _utc(moment)
    return day.year * 12 + day.month - 1


def month_begin(month: int) -> datetime:
    """When a month of `month_of` begins."""
    return datetime(month // 12, month % 12 + 1, 1, tzinfo=UTC)


class PurgeSealer:
    """Seals under the bucket in which the retention ends; erased with the bucket's key."""

    def __init__(self, keyring: KeyRing, retention_months: int = 6) -> None:
        self._keyring = keyring
        self.months, self.suite = retention_months, keyring.suite

    def seal(self, tenant: str, end: datetime, plaintext: bytes, associated: bytes) -> Sealed:
        """The plaintext in a box that can be opened until the bucket's key is destroyed.

        Raises:
            KeyDestroyed: the bucket of so early an end has been erased already.
        """
        key_id = purge_key_id(tenant, end, self.months)
        key, suite = self._keyring.derive(key_id, b"seal/v1"), self._keyring.suite(tenant)
        return seal(key, key_id, plaintext, associated, suite)

    def open(self, sealed: Sealed, associated: bytes) -> bytes:
        """The plaintext.

        Raises:
            SealBroken: not sealed so.
            KeyDestroyed: erased.
        """
        if _PURGE_ID.fullmatch(sealed.key_id) is None:
            raise broken()
        return open_sealed(_derived(self._keyring, sealed.key_id, b"seal/v1"), sealed, associated)


def _derived(keyring: KeyRing, name: str, context: bytes) -> bytes:
    """A derived key whose name comes from a record, and may be nonsense."""
    try:
        return keyring.derive(name, context)
    except ValueError:
        raise broken() from None


@dataclass(frozen=True, slots=True, repr=False)
class _Writer:
    """One day of one process."""

    day: date
    public: bytes
    shared: bytes


class EvidenceWriter:
    """Writes evidence copies that it cannot read back once the day and the process are over.

    One X25519 per day, and a key of its own for each copy, so that one can be held for a case
    beyond its bucket and no other with it (`record_key`).
    """

    def __init__(
        self,
        public_key: bytes,
        keyring: KeyRing,
        retention_months: int = 6,
        clock: Clock | None = None,
    ) -> None:
        self._public = public_key
        self._prefix = f"evidence2/{_fingerprint(public_key)}/"
        self._keyring = keyring
        self._months = retention_months
        self._clock: Clock = clock or SystemClock()
        self._writer = self._new_writer(self._clock.now().date())

    def seal(self, tenant: str, end: datetime, plaintext: bytes, associated: bytes) -> Sealed:
        """The plaintext in a box that only an approved unmask opens, until the bucket is erased.

        Raises:
            KeyDestroyed: the bucket of so early an end has been erased already.
        """
        writer = self._writer
        if (today := self._clock.now().date()) != writer.day:
            # Two threads may both start the day: two writer keys, each in its own boxes.
            self._writer = writer = self._new_writer(today)
        bucket, suite = purge_key_id(tenant, end, self._months), self._keyring.suite(tenant)
        root = record_key(self._keyring, bucket, associated)
        key = evidence_key(writer.shared, root, writer.public, self._public, suite)
        sealed = seal_once(key, self._prefix + bucket, plaintext, associated, suite)
        return Sealed(sealed.key_id, sealed.box[:1] + writer.public + sealed.box[1:])

    def _new_writer(self, day: date) -> _Writer:
        private = X25519PrivateKey.generate()  # dropped on return: only the shared secret stays
        shared = private.exchange(X25519PublicKey.from_public_bytes(self._public))
        return _Writer(day, private.public_key().public_bytes_raw(), shared)


def open_evidence(
    private_key: bytes,
    keyring: KeyRing,
    sealed: Sealed,
    associated: bytes,
    held_key: bytes | None = None,
) -> bytes:
    """The plaintext of an evidence copy; takes both the evidence private key and the bucket's, or
    the copy's own that was held for a case.

    Raises:
        SealBroken: not sealed so, or for another evidence key.
        KeyDestroyed: erased.
    """
    private = X25519PrivateKey.from_private_bytes(private_key)
    public = private.public_key().public_bytes_raw()
    name = _EVIDENCE_ID.fullmatch(sealed.key_id)
    if name is None or name[2] != _fingerprint(public) or len(sealed.box) < 33:
        raise broken()
    if held_key is not None:
        root = held_key
    elif name[1]:
        root = record_key(keyring, name[3], associated)
    else:
        root = _derived(keyring, name[3], b"evidence/v1")
    writer = sealed.box[1:33]
    try:
        shared = private.exchange(X25519PublicKey.from_public_bytes(writer))
    except ValueError:  # a point of low order: no writer made it
        raise broken() from None
    key = evidence_key(shared, root, writer, public, suite_of(sealed.box))
    return open_sealed(key, Sealed(sealed.key_id, sealed.box[:1] + sealed.box[33:]), associated)


def evidence_bucket(sealed: Sealed) -> str:
    """The bucket of an evidence copy that has a key of its own. Raises SealBroken: it has none."""
    name = _EVIDENCE_ID.fullmatch(sealed.key_id)
    if name is None or not name[1]:
        raise broken()
    return name[3]


def record_key(keyring: KeyRing, bucket: str, associated: bytes) -> bytes:
    """The ring's half of one evidence copy: of the bucket's key and of what the copy is bound to.
    It says nothing of other copies, so it can be held under a case key."""
    root = _derived(keyring, bucket, b"evidence/v1")
    return hmac.digest(root, b"axbridge/evidence-record/v1\x1f" + associated, "sha256")


def evidence_key(
    shared: bytes, root: bytes, writer: bytes, public: bytes, suite: Suite = "aes"
) -> bytes:
    """The key of a writer's evidence copy, or of all its copies in a bucket (`evidence/…`, a
    router's): HKDF with the suite's hash."""
    info = b"axbridge/evidence/v1" + writer + public
    if suite == "aes":  # RFC 5869 with one block and no salt, in a third of the time
        extracted = hmac.digest(_NO_SALT, shared + root, "sha256")
        return hmac.digest(extracted, info + b"\x01", "sha256")
    return HKDF(algorithm=hash_of(suite), length=32, salt=None, info=info).derive(shared + root)


def hash_of(suite: Suite) -> hashes.SHA256 | hashes.SM3:
    """The suite's hash, for HMAC and HKDF."""
    return hashes.SM3() if suite == "sm" else hashes.SHA256()


def _fingerprint(public_key: bytes) -> str:
    return hashlib.sha256(public_key).hexdigest()[:8]


def route_associated(
    *,
    tenant: str,
    binding: str,
    number: str,
    version: int,
    mode: int,
    direction: int,
    max_call_minutes: int,
    expire_ms: int,
    side: Literal["a", "b"],
    caller_tag: bytes,
    options: str = "",
) -> bytes:
    """What `callee_<side>` of a Route is bound to: every field that decides who reaches whom.

    `mode` and `direction` are the proto's numbers, `expire_ms` milliseconds since 1970, and
    `caller_tag` the tag of the party that may reach this callee: `tag_b` for `callee_a`, `tag_a`
    for `callee_b`. A router passes the tag it made of the calling number. `options` is their text
    (services/runtime/options.py), left out where it is empty.
    """
    return associated(
        "route", tenant, binding, number, version, mode, direction, max_call_minutes, expire_ms,
        side, caller_tag.hex(), *([options] if options else []),
    )  # fmt: skip


def _utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("a datetime without a zone")
    return moment.astimezone(UTC)
