"""Route keys that are over leave the view, told or not.

Refuses to wait for the tombstone, or to believe a record that follows it. Invariant: what is over
by its name and the clock (services/runtime/wrapping.py) is not in the view after the next `drop`.
"""

from datetime import UTC, date, datetime
from typing import Protocol, TypeVar

from services.router.view import KEYS, RouteKey
from services.runtime.wrapping import route_key_over

Change = TypeVar("Change")


class KeyTables(Protocol):
    """What is needed of the view's tables."""

    def delete(self, table: bytes, key: bytes) -> None: ...
    def names(self, table: bytes) -> list[bytes]:
        """All keys of a table."""


def standing(change: Change, now_ms: int) -> Change | RouteKey:
    """The record; of a key that is over, its end."""
    if isinstance(change, RouteKey) and route_key_over(change.key_id, _moment(now_ms)):
        return RouteKey(change.key_id, None)
    return change


class DailyDrop:
    """Drops keys that are over, once a UTC day: in between none comes to be over."""

    def __init__(self) -> None:
        self._day: date | None = None

    def drop(self, tables: KeyTables, now_ms: int) -> None:
        """To be called again where the transaction was not committed: so the day counts after it
        (see `done`)."""
        now = _moment(now_ms)
        if now.date() == self._day:
            return
        for name in tables.names(KEYS):
            if route_key_over(name.decode(), now):
                tables.delete(KEYS, name)

    def done(self, now_ms: int) -> None:
        """The drop of this moment's day was committed."""
        self._day = _moment(now_ms).date()


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
