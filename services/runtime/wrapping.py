"""Route keys: their names and days, and how they travel to routers.

docs/design/sealing.md is its specification. A route key is random and known by a tenant and the UTC
day on which bindings expire. It travels wrapped under a key of the ring that is kept for that day
only, so that the ring's destroying it ends every copy of the wrapped key: on Kafka, in a router's
file, in a backup. Pure but for randomness and the `KeyRing`.

Invariant: whether a key is over follows from its name and the time alone, so that a record of it
that comes late, wherever it comes from, brings nothing back.
"""

import os
import re
from datetime import UTC, date, datetime, timedelta
from typing import Final

from services.runtime.aead import Sealed, broken, open_sealed, seal
from services.runtime.keyring import KeyRing
from services.runtime.sm import Suite

_ROUTE_ID: Final = re.compile(r"route/([^/]+)/(\d{8})", re.ASCII)
_WRAPPING: Final = re.compile(r"route-wrapping(?:/[a-z0-9-]{1,16}/\d{8})?", re.ASCII)
_LIFE: Final = timedelta(days=2)  # its day, and one day after it


def route_key_id(tenant: str, expire: datetime) -> str:
    """`route/<tenant>/<yyyymmdd>`: the UTC day on which the binding expires. Where the tenant has
    several cells, `<tenant>@<cell>` stands for it in all but the first."""
    if expire.tzinfo is None:
        raise ValueError("a datetime without a zone")
    return f"route/{tenant}/{expire.astimezone(UTC):%Y%m%d}"


def route_key_over(key_id: str, now: datetime) -> bool:
    """The key's day ended a day ago: no binding that it was made for is live, nothing may use it.

    What is not named as a route key is never over.
    """
    day = route_key_day(key_id)
    return day is not None and now >= datetime(day.year, day.month, day.day, tzinfo=UTC) + _LIFE


def route_key_day(key_id: str) -> date | None:
    """The day in a route key's name; None where there is none."""
    named = _ROUTE_ID.fullmatch(key_id)
    try:
        return datetime.strptime(named[2], "%Y%m%d").date() if named else None
    except ValueError:
        return None


def route_key_tenant(key_id: str) -> str:
    """The tenant in a route key's name, with `@<cell>` for keys of a further cell; empty where
    there is none."""
    named = _ROUTE_ID.fullmatch(key_id)
    return named[1] if named else ""


def suite_for(keyring: KeyRing, key_id: str) -> Suite:
    """The suite of what is sealed with a route key: its tenant's."""
    return keyring.suite(route_key_tenant(key_id).partition("@")[0])


def wrapping_name(key_id: str, label: str) -> str:
    """The ring's key that wraps a route key: one per label and day, for all tenants."""
    return f"route-wrapping/{label}/{key_id.rpartition('/')[2]}"


def new_route_key() -> bytes:
    """A fresh 32-octet key. It is not derived from the ring, so that it can be forgotten."""
    return os.urandom(32)


def wrap_route_key(keyring: KeyRing, key_id: str, key: bytes, label: str = "1") -> Sealed:
    """The route key, sealed for whoever shares the ring.

    Raises:
        KeyDestroyed: the day's wrapping key has been destroyed.
    """
    name, suite = wrapping_name(key_id, label), suite_for(keyring, key_id)
    return seal(keyring.derive(name, b"wrap/v1"), name, key, key_id.encode(), suite)


def unwrap_route_key(keyring: KeyRing, key_id: str, wrapped: Sealed) -> bytes:
    """The route key named `key_id`, whichever wrapping key it is under.

    Raises:
        SealBroken: it is the key of another id, or not wrapped so.
        KeyDestroyed: its wrapping key has been destroyed.
    """
    if _WRAPPING.fullmatch(wrapped.key_id) is None:
        raise broken()
    return open_sealed(keyring.derive(wrapped.key_id, b"wrap/v1"), wrapped, key_id.encode())
