"""What a call needs keys for before it is decided: the caller's tag, and the callee's number from
its route copy. Keeps few keys, for a short time.

Refuses to tell why a box does not open. Invariant: a key that left the view is not used for longer
than `_KEPT_SECONDS`, in any worker.
"""

import hmac
from typing import Final, Literal, Protocol

from services.router.domain import Entry, Side
from services.router.ports import KeyUnavailable
from services.router.view import Copy
from services.runtime.clock import Clock, SystemClock
from services.runtime.keyring import KeyDestroyed, KeyRing
from services.runtime.sealing import (
    SealBroken,
    Sealed,
    open_sealed,
    route_associated,
    unwrap_route_key,
)

_KEPT_SECONDS: Final = 30.0
_KEPT: Final = 1024  # three days of 300 tenants; beyond, start again


class CallerTagger:
    """`sealing.Tagger.party` for the path of a call: a kept HMAC is copied, which takes a third of
    the time and, unlike `hmac.digest`, does not give up the interpreter."""

    def __init__(self, keyring: KeyRing) -> None:
        self._derive = keyring.derive
        self._kept: dict[str, tuple[bytes, hmac.HMAC]] = {}

    def party(self, tenant: str, e164: str) -> bytes:
        """The 16-octet tag of a real number."""
        key = self._derive(f"tags/{tenant}", b"tag/v1")  # asked each time: it may be destroyed
        kept = self._kept.get(tenant)
        if kept is None or kept[0] != key:
            if len(self._kept) >= _KEPT:
                self._kept.clear()
            begun = hmac.new(key, f"axbridge/party/v1\x1f{tenant}\x1f".encode(), "sha256")
            kept = self._kept[tenant] = key, begun
        made = kept[1].copy()
        made.update(e164.encode())
        return made.digest()[:16]


class WrappedKeys(Protocol):
    """Where route keys lie, wrapped."""

    def wrapped(self, key_id: str) -> Copy | None: ...


class RouteOpener:
    """See ports.Opener."""

    def __init__(self, keys: WrappedKeys, keyring: KeyRing, clock: Clock | None = None) -> None:
        self._wrapped, self._keyring = keys.wrapped, keyring
        self._monotonic = (clock or SystemClock()).monotonic
        self._kept: dict[str, tuple[bytes, float]] = {}

    def callee(self, number: str, entry: Entry, tag: bytes) -> str:
        side: Literal["a", "b"] = "b" if entry.caller_side == Side.A else "a"
        bound = route_associated(
            tenant=entry.tenant, binding=entry.binding, number=number, version=entry.version,
            mode=entry.mode, direction=entry.direction, max_call_minutes=entry.max_call_minutes,
            expire_ms=entry.expire_ms, side=side, caller_tag=tag,
        )  # fmt: skip
        try:
            key = self._key(entry.key_id)
            return open_sealed(key, Sealed(entry.key_id, entry.box), bound).decode("ascii")
        except (SealBroken, KeyDestroyed, UnicodeDecodeError):
            raise KeyUnavailable from None

    def _key(self, key_id: str) -> bytes:
        hit = self._kept.get(key_id)
        if hit is not None and self._monotonic() < hit[1]:
            return hit[0]
        self._kept.pop(key_id, None)
        until = self._monotonic() + _KEPT_SECONDS  # counted from before the read
        wrapped = self._wrapped(key_id)
        if wrapped is None:
            raise KeyUnavailable
        key = unwrap_route_key(self._keyring, key_id, Sealed(wrapped.key_id, wrapped.box))
        if len(self._kept) >= _KEPT:
            self._kept.clear()
        self._kept[key_id] = key, until
        return key
