"""Tokens of lists whose items are named by a UUID in the order of creation. Pure.

Refuses a token of another list. Invariant: the mark ties a token to its tenant and filter, so no
token says anything about what its holder may not list.
"""

import base64
import binascii
import uuid

from services.runtime.errors import InvalidArgument


def token(mark: bytes, last: str) -> str:
    """The token of the page behind the item `last`; `mark` has 8 octets."""
    return base64.urlsafe_b64encode(mark + uuid.UUID(last).bytes).decode()


def after(text: str, mark: bytes) -> str:
    """The id that a page begins behind, empty for the first.

    Raises:
        InvalidArgument: INVALID_PAGE_TOKEN.
    """
    if not text:
        return ""
    try:
        raw = base64.b64decode(text.encode("ascii"), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != 24 or raw[:8] != mark:
        raise InvalidArgument("INVALID_PAGE_TOKEN", "not a token of this list", field="page_token")
    return str(uuid.UUID(bytes=raw[8:]))
