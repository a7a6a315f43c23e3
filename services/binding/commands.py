"""What a caller may ask for, as values. Pure.

Refuses nothing: translate has checked the fields. Invariant: the canonical text of a request holds
everything that a repetition must not change, and is the same however its numbers were written.
"""

from dataclasses import dataclass

from services.binding.domain import Mode, Terms
from services.runtime.phone import PhoneNumber
from services.runtime.selection import ANY, Selection


@dataclass(frozen=True, slots=True, repr=False)
class Create:
    """Bind A, and B where the mode has one."""

    tenant: str
    request_id: str
    a: PhoneNumber
    b: PhoneNumber | None
    terms: Terms
    life_ms: int = 0  # instead of the terms' expiry, counted from the creation
    extension_digits: int = 0  # mode AXE
    selection: Selection = ANY

    def canonical(self) -> str:
        """The request's text for its hash. No part holds the separator."""
        t = self.terms
        parts = [
            "create", t.pool, self.a.e164, self.b.e164 if self.b else "", t.order_id, t.industry_id,
            str(t.expire_ms), str(t.direction.value), str(t.max_call_minutes),
            t.customer_data.hex(),
        ]  # fmt: skip
        # Only where they are given, so that requests answered by an earlier version stay known.
        if t.options.text:
            parts.append(f"options:{t.options.text}")
        if self.life_ms:
            parts.append(f"life:{self.life_ms}")
        if t.mode is not Mode.AXB:
            parts.append(f"mode:{t.mode.value}:{self.extension_digits}")
        if self.selection.text:
            parts.append(f"selection:{self.selection.text}")
        return "\x1f".join(parts)


@dataclass(frozen=True, slots=True, repr=False)
class Update:
    """Move a binding's expiry."""

    tenant: str
    binding: str
    request_id: str
    version: int
    expire_ms: int

    def canonical(self) -> str:
        """The request's text for its hash."""
        return f"update\x1f{self.binding}\x1f{self.version}\x1f{self.expire_ms}"


@dataclass(frozen=True, slots=True, repr=False)
class Release:
    """End a binding; `version` 0: whatever is current."""

    tenant: str
    binding: str
    version: int


Command = Create | Update | Release


@dataclass(frozen=True, slots=True, repr=False)
class Name:
    """Name the temporary callee of mode AX, or nobody any more."""

    tenant: str
    binding: str
    request_id: str
    callee: PhoneNumber | None

    def canonical(self) -> str:
        """The request's text for its hash."""
        return f"name\x1f{self.binding}\x1f{self.callee.e164 if self.callee else ''}"


@dataclass(frozen=True, slots=True, repr=False)
class Upgrade:
    """Make AX an AXB."""

    tenant: str
    binding: str
    request_id: str
    version: int
    b: PhoneNumber

    def canonical(self) -> str:
        """The request's text for its hash."""
        return f"upgrade\x1f{self.binding}\x1f{self.version}\x1f{self.b.e164}"


@dataclass(frozen=True, slots=True, repr=False)
class Find:
    """A page of bindings by exactly one of order, number and party."""

    tenant: str
    by: str | PhoneNumber
    kind: str
    limit: int
    token: str
