"""Fields that several requests have, checked. Pure and total.

Refuses to repeat in an error what a request held. Invariant: whatever passes is of its form.
"""

import re
from typing import Any, Final, NoReturn

from google.protobuf.timestamp_pb2 import Timestamp

from services.binding.messages import millis
from services.runtime.clock import Clock
from services.runtime.errors import InvalidArgument

SEGMENT: Final = r"[a-z][a-z0-9-]{0,31}"
UUID: Final = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
TENANT: Final = re.compile(rf"tenants/({SEGMENT})", re.ASCII)
POOL: Final = re.compile(rf"tenants/({SEGMENT})/pools/{SEGMENT}", re.ASCII)
CODE: Final = re.compile(r"[A-Za-z0-9._-]{1,32}", re.ASCII)
CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_PAGE: Final = 100
_LONGEST_PAGE: Final = 1000
YEAR_10000: Final = 253_402_300_800  # seconds; Timestamp ends before it


def matched(pattern: re.Pattern[str], text: str, field: str) -> re.Match[str]:
    """The match of the whole field. Raises InvalidArgument: INVALID_FIELD."""
    found = pattern.fullmatch(text)
    if found is None:
        invalid(field)
    return found


def text(value: str, longest: int, field: str) -> str:
    """Text of 1 to `longest` characters that can be printed. Raises INVALID_FIELD."""
    if not 1 <= len(value) <= longest or CONTROL.search(value):
        invalid(field)
    return value


def pool_of(tenant: str, pool: str) -> str:
    """A pool of the tenant. Raises INVALID_FIELD."""
    if matched(POOL, pool, "pool")[1] != tenant:
        invalid("pool")
    return pool


def page_size(size: int) -> int:
    """How many to list. Raises INVALID_FIELD."""
    if not 0 <= size <= _LONGEST_PAGE:
        invalid("page_size")
    return size or _PAGE


def expiry(given: bool, time: Timestamp) -> int:
    """A required expiry, ms since 1970. Raises INVALID_FIELD, EXPIRY_PAST."""
    if not given or not 0 <= time.nanos < 1_000_000_000 or abs(time.seconds) >= YEAR_10000:
        invalid("expire_time")
    if time.seconds <= 0:  # before any clock; also keeps 0 for "not yet"
        raise InvalidArgument("EXPIRY_PAST", "expire_time lies in the past")
    return millis(time)


def deadline(context: Any, clock: Clock) -> float:
    """A call's deadline on the monotonic clock; far away where the caller named none."""
    remaining = context.time_remaining()
    return clock.monotonic() + (3600.0 if remaining is None else remaining)


def invalid(field: str) -> NoReturn:
    """Raises INVALID_FIELD."""
    raise InvalidArgument("INVALID_FIELD", "a field is missing or malformed", field=field)
