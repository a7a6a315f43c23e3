"""Seals and opens what is personal in a binding: route copies, evidence copy, secrets, tags.

docs/design/sealing.md is its specification. Refuses to keep a real number: the two exist here only
between a request, or an opened route copy, and the sealed copies made of them. Invariant: every
copy is bound to the version it is published with, so a new version is always sealed anew.
"""

import hmac
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from axbridge.binding.v1 import binding_pb2, events_pb2

from services.binding.domain import Binding
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
        self, binding: Binding, a: PhoneNumber, b: PhoneNumber, route: RouteSeal
    ) -> Copies:
        """All copies of a new binding."""
        evidence = self._evidence.seal(
            binding.tenant,
            _end(binding),
            f"{a.e164} {b.e164}".encode(),
            associated("binding-evidence", binding.tenant, binding.id),
        )
        return self._sealed(binding, a.e164.encode(), b.e164.encode(), route, evidence)

    def seal_again(
        self,
        old: Binding,
        copies: Copies,
        new: Binding,
        before: RouteSeal,
        after: RouteSeal,
    ) -> Copies:
        """The copies of a live binding at another version: numbers are opened and sealed at once.
        The evidence copy is carried on, unless the end moved to another purge bucket."""
        assert copies.callee_a is not None
        assert copies.callee_b is not None
        a = open_sealed(before.key, copies.callee_a, _bound(old, "a"))
        b = open_sealed(before.key, copies.callee_b, _bound(old, "b"))
        evidence = copies.evidence
        if evidence is None or not evidence.key_id.endswith(self.bucket(new)):
            evidence = self._evidence.seal(
                new.tenant,
                _end(new),
                a + b" " + b,
                associated("binding-evidence", new.tenant, new.id),
            )
        return self._sealed(new, a, b, after, evidence)

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
            seal(route.key, route.key_id, b, _bound(binding, "b"), suite),
            evidence,
            self._seal_secrets(binding, evidence),
        )

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


def _bound(binding: Binding, side: Literal["a", "b"]) -> bytes:
    terms = binding.terms
    return route_associated(
        tenant=binding.tenant,
        binding=binding.id,
        number=binding.number,
        version=binding.version,
        mode=binding_pb2.BINDING_MODE_AXB,
        direction=terms.direction.value,
        max_call_minutes=terms.max_call_minutes,
        expire_ms=terms.expire_ms,
        side=side,
        caller_tag=binding.tag_b if side == "a" else binding.tag_a,
        options=terms.options.text,
    )
