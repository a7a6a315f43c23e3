"""What can be asked about the log, and what the index knows of a leaf. Pure.

Refuses values that no event can have, so that a typing error is an error and not an empty answer.
Invariant: a page token goes only with the filter it was given for.
"""

import base64
import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from services.runtime.errors import InvalidArgument
from services.runtime.phone import PhoneNumber

PAGE_DEFAULT: Final = 100
PAGE_MAX: Final = 1000
# Entries of one page, below gRPC's 4 MiB: 6,000 ordinary ones, or 50 of the largest.
PAGE_BYTES: Final = 3 * 1024 * 1024
# What a proof adds to an entry in a tree of 2^32 leaves.
PROOF_BYTES: Final = 1200
NUMBER: Final = re.compile(r"700\d{12}", re.ASCII)
_TENANT: Final = re.compile(r"[a-z][a-z0-9-]{0,31}", re.ASCII)
_TEXT_MAX: Final = 200
_TOKEN_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class IndexRow:
    """What the index knows of a leaf. Empty: the event says nothing of it.

    `order_tag` and `parties` are blind tags of the order and of real numbers, none where the sealed
    part cannot be opened. `bucket` names the purge bucket that they die with, `purged` one that
    this leaf says has ended. `until_ms`: until when the binding lives by this event; with `ended`,
    when it ended.
    """

    leaf: int
    event_id: str
    type: str
    time_ms: int
    tenant: str = ""
    binding: str = ""
    call: str = ""
    numbers: tuple[str, ...] = ()
    order_tag: bytes | None = None
    parties: tuple[bytes, ...] = ()
    bucket: str = ""
    purged: str = ""
    until_ms: int | None = None
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Filter:
    """What a leaf must have; empty and None: anything. Times in ms, [start, end)."""

    tenant: str = ""
    binding: str = ""
    order_tag: bytes | None = None
    number: str = ""
    type: str = ""
    start_ms: int | None = None
    end_ms: int | None = None
    call: str = ""
    party: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A checked question for one page. `type` is a full name.

    Raises:
        InvalidArgument: INVALID_FIELD.
    """

    tenant: str = ""
    binding: str = ""
    order_id: str = ""
    number: str = ""
    type: str = ""
    start_ms: int | None = None
    end_ms: int | None = None
    call: str = ""
    party: PhoneNumber | None = None
    page_size: int = 0
    page_token: str = ""
    prove: bool = False

    def __post_init__(self) -> None:
        if self.tenant and not _TENANT.fullmatch(self.tenant):
            raise invalid("tenant")
        if (self.order_id or self.party) and not self.tenant:
            raise invalid("tenant")  # orders and tags are a tenant's own
        if self.number and not NUMBER.fullmatch(self.number):
            raise invalid("number")
        for name in ("binding", "order_id", "type", "call"):
            if len(getattr(self, name)) > _TEXT_MAX:
                raise invalid(name)
        if not 0 <= self.page_size <= PAGE_MAX:
            raise invalid("page_size")

    @property
    def limit(self) -> int:
        return self.page_size or PAGE_DEFAULT

    def filter(self, order_tag: bytes | None, party: bytes | None = None) -> Filter:
        """The question in the index's terms."""
        return Filter(
            self.tenant,
            self.binding,
            order_tag,
            self.number,
            self.type,
            self.start_ms,
            self.end_ms,
            self.call,
            party,
        )


def invalid(field: str) -> InvalidArgument:
    """A field that is missing, malformed or out of its range."""
    return InvalidArgument("INVALID_FIELD", "a field is missing or malformed", field=field)


def page_token(wanted: Filter, leaf: int) -> str:
    """Stands for "after `leaf`" under this filter: a leaf index and a digest, no secret."""
    head = leaf.to_bytes(8, "big")
    return base64.urlsafe_b64encode(head + _digest(wanted, head)).decode()


def after(wanted: Filter, token: str) -> int:
    """The first leaf behind a page; 0 for no token.

    Raises:
        InvalidArgument: INVALID_PAGE_TOKEN: it was not given out for this filter.
    """
    if not token:
        return 0
    try:
        raw = base64.b64decode(token.encode(), altchars=b"-_", validate=True)
    except ValueError:
        raw = b""
    head, digest = raw[:8], raw[8:]
    if len(raw) != 8 + _TOKEN_BYTES or digest != _digest(wanted, head) or raw[0] > 0x7F:
        raise InvalidArgument("INVALID_PAGE_TOKEN", field="page_token")
    return int.from_bytes(head, "big") + 1


def _digest(wanted: Filter, head: bytes) -> bytes:
    return sha256(repr(wanted).encode() + head).digest()[:_TOKEN_BYTES]
