"""What a call needs keys for: the caller's tag, the callee's number from its route copy, and the
sealed part of what is recorded. Keeps few keys, for a short time.

Refuses to tell why a box does not open. Invariant: a key that left the view is not used for longer
than `_KEPT_SECONDS`, in any worker, and one that the ring destroyed for no longer than a second
more than the ring itself allows.
"""

import hashlib
import hmac
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, NamedTuple, Protocol

from axbridge.router.v1 import events_pb2
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hmac import HMAC

from services.router.domain import Entry
from services.router.ports import KeyUnavailable
from services.router.view import Copy
from services.runtime.aead import NONCE, Cipher
from services.runtime.clock import Clock, SystemClock
from services.runtime.keyring import KeyDestroyed, KeyRing
from services.runtime.sealing import (
    SealBroken,
    Sealed,
    associated,
    evidence_key,
    hash_of,
    purge_key_id,
)
from services.runtime.wrapping import route_key_over, suite_for, unwrap_route_key

_KEPT_SECONDS: Final = 30.0
_READY_SECONDS: Final = 1.0
_DAY_MS: Final = 24 * 3600 * 1000
_KEPT: Final = 1024  # three days of 300 tenants; beyond, start again

_Open = Callable[[bytes, bytes], bytes]  # `Cipher.open`, and `seal`
_AXE: Final = 4
_SEPARATOR: Final = "\x1f"


class CallerTagger:
    """`sealing.Tagger.party` for the path of a call. An HMAC begun with the tenant's key is kept
    and copied: a third of the time, and unlike `hmac.digest` it keeps the interpreter."""

    def __init__(self, keyring: KeyRing, clock: Clock | None = None) -> None:
        self._derive, self._suite = keyring.derive, keyring.suite
        self._monotonic = (clock or SystemClock()).monotonic
        self._kept: dict[str, tuple[Callable[[], HMAC], float]] = {}

    def party(self, tenant: str, e164: str) -> bytes:
        """The 16-octet tag of a real number."""
        hit = self._kept.get(tenant)
        if hit is None or self._monotonic() >= hit[1]:
            hit = self._begin(tenant)
        tag = hit[0]()
        tag.update(e164.encode())
        return tag.finalize()[:16]

    def _begin(self, tenant: str) -> tuple[Callable[[], HMAC], float]:
        self._kept.pop(tenant, None)
        until = self._monotonic() + _READY_SECONDS  # then the ring is asked: it may be destroyed
        begun = HMAC(self._derive(f"tags/{tenant}", b"tag/v1"), hash_of(self._suite(tenant)))
        begun.update(f"axbridge/party/v1\x1f{tenant}\x1f".encode())
        if len(self._kept) >= _KEPT:
            self._kept.clear()
        made = self._kept[tenant] = begun.copy, until
        return made


class WrappedKeys(Protocol):
    """Where route keys lie, wrapped."""

    def wrapped(self, key_id: str) -> Copy | None: ...


class RouteOpener:
    """See ports.Opener."""

    def __init__(self, keys: WrappedKeys, keyring: KeyRing, clock: Clock | None = None) -> None:
        self._wrapped, self._keyring = keys.wrapped, keyring
        self._clock: Clock = clock or SystemClock()
        self._monotonic = self._clock.monotonic
        self._kept: dict[str, tuple[_Open, float, _Open]] = {}

    def callee(self, number: str, entry: Entry, tag: bytes) -> str:
        (tenant, binding, version, _, side, mode, direction, minutes, expire_ms, _, _, key_id, box,
         options) = entry  # fmt: skip
        hit = self._kept.get(key_id)
        try:
            if hit is None or self._monotonic() >= hit[1]:
                hit = self._fetch(key_id)
            # `sealing.route_associated` in one step: of the fields that `decide` judged, not of any
            # kept beside the box. What holds an 0x1f somewhere has one too many here as well, and
            # opens nothing, since no box was ever bound to such parts.
            if mode == _AXE and side == 1:  # the box is of the last caller, see view
                return str(hit[0](box[8:], last_caller_associated(
                    tenant, binding, number, int.from_bytes(box[:8]), tag
                )), "ascii")  # fmt: skip
            bound = (
                f"route\x1f{tenant}\x1f{binding}\x1f{number}\x1f{version}\x1f{mode}\x1f{direction}"
                f"\x1f{minutes}\x1f{expire_ms}\x1f{'b' if side == 1 else 'a'}\x1f{tag.hex()}"
                f"{options and _SEPARATOR + options}"
            ).encode(errors="surrogatepass")
            return str(hit[0](box, bound), "ascii")
        except (SealBroken, KeyDestroyed, UnicodeDecodeError):
            raise KeyUnavailable from None

    def sealed(self, number: str, entry: Entry, callee: str, caller: str, time_ms: int) -> bytes:
        hit = self._kept.get(entry.key_id) or self._fetch(entry.key_id)
        bound = last_caller_associated(
            entry.tenant, entry.binding, number, time_ms, callee.encode()
        )
        return hit[2](caller.encode(), bound)

    def _fetch(self, key_id: str) -> tuple[_Open, float, _Open]:
        self._kept.pop(key_id, None)
        until = self._monotonic() + _KEPT_SECONDS  # counted from before the read
        wrapped = self._wrapped(key_id)
        if wrapped is None or route_key_over(key_id, self._clock.now()):
            raise KeyUnavailable
        key = unwrap_route_key(self._keyring, key_id, Sealed(wrapped.key_id, wrapped.box))
        if len(self._kept) >= _KEPT:
            self._kept.clear()
        suite = suite_for(self._keyring, key_id)
        cipher = Cipher(key, key_id, suite)
        made = self._kept[key_id] = cipher.open, until, cipher.seal
        return made


class _Ready(NamedTuple):
    """The ciphers of a tenant's purge bucket on a day, and until when they may be used."""

    until: float
    purge_id: str
    purge: Cipher
    evidence_id: str
    evidence: Cipher
    writer: bytes  # its X25519 public key


def last_caller_associated(tenant: str, binding: str, number: str, time_ms: int, a: bytes) -> bytes:
    """What the copy of a last caller is bound to; `a` is A's E.164 number."""
    return associated("last-caller", tenant, binding, number, time_ms, a.hex())


class CallerSealer:
    """Seals what is kept of a caller: octet for octet what `sealing.PurgeSealer` and
    `EvidenceWriter` make (docs/design/sealing.md; the tests open it with `sealing`), in half their
    time, since a tenant's ciphers stand ready from one event to the next.

    An event may be sealed again after a crash, so nonces are not drawn: each is an HMAC of what the
    box is bound to and of its plaintext. The same event gives the same octets; where another day or
    process has another writer key, the boxes differ, and so do their nonces: no nonce ever meets
    two plaintexts under one key. For one thread."""

    def __init__(
        self, keyring: KeyRing, evidence_public: bytes, clock: Clock | None = None
    ) -> None:
        self._derive, self._suite, self._public = keyring.derive, keyring.suite, evidence_public
        self._monotonic = (clock or SystemClock()).monotonic
        self._prefix = f"evidence/{hashlib.sha256(evidence_public).hexdigest()[:8]}/"
        self._ready: dict[tuple[str, int], _Ready] = {}
        self._writer = self._new_writer(-1)

    def seal(
        self, tenant: str, time_ms: int, caller: str, tag: bytes, *, call: bytes, event: bytes
    ) -> tuple[str, bytes]:
        """Key id and box of the CallSecrets: the evidence copy bound to `call`, all to `event`.

        Raises:
            KeyDestroyed: the bucket has been erased already.
        """
        ready = self._ready.get((tenant, time_ms // _DAY_MS))
        if ready is None or self._monotonic() >= ready.until:
            ready = self._make_ready(tenant, time_ms)
        secrets = events_pb2.CallSecrets()
        secrets.caller_tag = tag
        nonce = self._nonce(b"evidence", event, caller.encode())
        copy, box = secrets.caller_evidence, ready.evidence.seal_with(nonce, caller.encode(), call)
        copy.key_id, copy.box = ready.evidence_id, box[:1] + ready.writer + box[1:]
        plaintext = secrets.SerializeToString(deterministic=True)
        nonce = self._nonce(b"purge", event, plaintext)
        return ready.purge_id, ready.purge.seal_with(nonce, plaintext, event)

    def _nonce(self, use: bytes, event: bytes, plaintext: bytes) -> bytes:
        key = self._derive("journal", b"nonce/v1")
        return hmac.digest(key, b"\x1f".join((use, event, plaintext)), "sha256")[:NONCE]

    def _make_ready(self, tenant: str, time_ms: int) -> _Ready:
        if len(self._ready) >= _KEPT:
            self._ready.clear()
        day, until = time_ms // _DAY_MS, self._monotonic() + _READY_SECONDS
        self._ready.pop((tenant, day), None)
        writer = self._writer
        if writer[0] != day:
            self._writer = writer = self._new_writer(day)
        _, public, shared = writer
        bucket = purge_key_id(tenant, datetime.fromtimestamp(time_ms / 1000, UTC))
        root, suite = self._derive(bucket, b"evidence/v1"), self._suite(tenant)
        evidence = evidence_key(shared, root, public, self._public, suite)
        ready = self._ready[tenant, day] = _Ready(
            until, bucket, Cipher(self._derive(bucket, b"seal/v1"), bucket, suite),
            self._prefix + bucket, Cipher(evidence, self._prefix + bucket, suite), public,
        )  # fmt: skip
        return ready

    def _new_writer(self, day: int) -> tuple[int, bytes, bytes]:
        private = X25519PrivateKey.generate()  # dropped on return: only the shared secret stays
        shared = private.exchange(X25519PublicKey.from_public_bytes(self._public))
        return day, private.public_key().public_bytes_raw(), shared
