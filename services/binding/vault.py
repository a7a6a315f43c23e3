"""Seals and opens what is personal in a binding: route copies, evidence copy, secrets, tags.

docs/design/sealing.md is its specification. Refuses to keep a real number: the two exist here only
between a request, or an opened route copy, and the sealed copies made of them. Invariant: every
copy is bound to the version it is published with, so a new version is always sealed anew.
"""

import hmac
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from axbridge.binding.v1 import events_pb2

from services.binding.domain import Binding, Mode
from services.binding.messages import Copies, secrets_of, unsealed
from services.runtime.choice import FIRST_CELL
from services.runtime.keyring import KeyDestroyed, KeyRing
from services.runtime.phone import PhoneNumber
from services.runtime.sealing import (
    EvidenceWriter,
    PurgeSealer,
    Sealed,
    Tagger,
    associated,
    open_sealed,
    purge_key_id,
    route_associated,
    seal,
)
from services.runtime.wrapping import route_key_id


class KeyedTags(Tagger):
    """Tags and request hashes; implements ports.Tags."""

    def __init__(self, keyring: KeyRing) -> None:
        super().__init__(keyring)
        self._requests = keyring

    def body(self, tenant: str, text: str) -> bytes:
        """See ports.Tags. The tenant is hashed, not derived by: a ring's labels are constants."""
        key = self._requests.derive("requests", b"body/v1")
        message = f"axbridge/body/v1\x1f{tenant}\x1f{text}"
        return hmac.digest(key, message.encode(), "sha256")[:16]


class Opened(NamedTuple):
    """The sealed part, open."""

    order_id: str
    customer_data: bytes
    evidence: Sealed | None


class RouteSeal(NamedTuple):
    """A route key and its id."""

    key_id: str
    key: bytes


class Vault:
    """Makes a binding's copies."""

    def __init__(
        self, purge: PurgeSealer, evidence: EvidenceWriter, cell: str = FIRST_CELL
    ) -> None:
        self._purge = purge
        # Each cell makes its own keys: those of a tenant with several must not share a name.
        self._place = "" if cell == FIRST_CELL else f"@{cell}"
        self._evidence = evidence

    @property
    def retention_months(self) -> int:
        """How long sealed parts are kept after the end."""
        return self._purge.months

    def bucket(self, binding: Binding) -> str:
        """The name of the binding's purge bucket."""
        return purge_key_id(binding.tenant, _end(binding), self._purge.months)

    def route_key_id(self, binding: Binding) -> str:
        """The id of the key for the binding's route copies."""
        return route_key_id(binding.tenant + self._place, _end(binding))

    def seal_new(
        self, binding: Binding, a: PhoneNumber, b: PhoneNumber | None, route: RouteSeal
    ) -> Copies:
        """All copies of a new binding."""
        real_a, real_b = a.e164.encode(), b.e164.encode() if b else b""
        evidence = self._seal_evidence(binding, real_a, real_b)
        return self._sealed(binding, real_a, real_b, route, evidence)

    def seal_again(
        self,
        old: Binding,
        copies: Copies,
        new: Binding,
        before: RouteSeal,
        after: RouteSeal,
        b: PhoneNumber | None = None,
    ) -> Copies:
        """The copies of a live binding for its next version, `b` being a new B's number. The
        evidence copy stays, unless the end moves to another purge bucket or B is another."""
        assert copies.callee_a is not None
        real_a = open_sealed(before.key, copies.callee_a, _bound(old, "a"))
        if b is not None:
            real_b = b.e164.encode()
        elif new.tag_b:
            assert copies.callee_b is not None
            real_b = open_sealed(before.key, copies.callee_b, _bound(old, "b"))
        else:
            real_b = b""
        evidence, moved = copies.evidence, new.tag_b != old.tag_b
        if evidence is None or moved or not evidence.key_id.endswith(self.bucket(new)):
            evidence = self._seal_evidence(new, real_a, real_b)
        return self._sealed(new, real_a, real_b, after, evidence)

    def seal_ended(self, binding: Binding, copies: Copies) -> Copies:
        """The copies of an ended binding: no callee, the rest for the purge bucket it has had."""
        if copies.secrets is None:
            return Copies(None, None, None, None)
        try:
            secrets = self._seal_secrets(binding, copies.evidence)
        except KeyDestroyed:  # erased before it could be ended: there is nothing left to keep
            return Copies(None, None, None, None)
        return Copies(None, None, copies.evidence, secrets)

    def open(self, record: events_pb2.BindingRecord) -> Opened:
        """The sealed part of a record; empty once its bucket is erased, or where it has none."""
        route, box = record.route, unsealed(record.secrets)
        if box is None:
            return Opened("", b"", None)
        try:
            plain = self._purge.open(box, _event(route.tenant, route.binding, route.version))
        except KeyDestroyed:
            return Opened("", b"", None)
        secrets = events_pb2.BindingSecrets.FromString(plain)
        return Opened(secrets.order_id, secrets.customer_data, unsealed(secrets.evidence))

    def _sealed(
        self, binding: Binding, a: bytes, b: bytes, route: RouteSeal, evidence: Sealed
    ) -> Copies:
        suite = self._purge.suite(binding.tenant)
        return Copies(
            seal(route.key, route.key_id, a, _bound(binding, "a"), suite),
            seal(route.key, route.key_id, b, _bound(binding, "b"), suite) if b else None,
            evidence,
            self._seal_secrets(binding, evidence),
        )

    def _seal_evidence(self, binding: Binding, a: bytes, b: bytes) -> Sealed:
        bound = associated("binding-evidence", binding.tenant, binding.id)
        both = a + b" " + b if b else a
        return self._evidence.seal(binding.tenant, _end(binding), both, bound)

    def _seal_secrets(self, binding: Binding, evidence: Sealed | None) -> Sealed:
        return self._purge.seal(
            binding.tenant,
            _end(binding),
            secrets_of(binding, evidence),
            _event(binding.tenant, binding.id, binding.version),
        )


def _event(tenant: str, binding: str, version: int) -> bytes:
    return associated("binding-event", tenant, binding, version)


def _end(binding: Binding) -> datetime:
    return datetime.fromtimestamp(binding.terms.expire_ms / 1000, UTC)


def _callers_of_a(binding: Binding) -> bytes:
    """Who reaches A, as the router knows them: B by tag, or whoever dials an extension, or all."""
    if binding.terms.mode in (Mode.AXB, Mode.AXYB):
        return binding.tag_b
    return binding.terms.options.extension.encode()


def _bound(binding: Binding, side: Literal["a", "b"]) -> bytes:
    terms = binding.terms
    return route_associated(
        tenant=binding.tenant,
        binding=binding.id,
        number=binding.second or binding.number if side == "a" else binding.number,
        version=binding.version,
        mode=terms.mode.value,
        direction=terms.direction.value,
        max_call_minutes=terms.max_call_minutes,
        expire_ms=terms.expire_ms,
        side=side,
        caller_tag=_callers_of_a(binding) if side == "a" else binding.tag_a,
        options=terms.options.text,
    )
