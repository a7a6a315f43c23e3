"""Route keys that are over leave a router's view without being told to."""

from datetime import UTC, datetime, timedelta

from services.router.routekeys import DailyDrop, standing
from services.router.view import KEYS, Copy, RouteKey, Tombstone, apply
from services.runtime.clock import ManualClock
from tests.unit.router.routes import MemoryTables

KEY = RouteKey("route/acme/20260101", Copy("route-wrapping/1/20260101", b"box"))


class Tables(MemoryTables):
    def names(self, table: bytes) -> list[bytes]:
        return list(self.tables.get(table, {}))


def ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def test_a_late_record_of_a_key_that_is_over_ends_it() -> None:
    end = ms(datetime(2026, 1, 3, tzinfo=UTC))
    assert standing(KEY, end - 1) is KEY
    assert standing(KEY, end) == RouteKey(KEY.key_id, None)
    other = Tombstone("700123456781234", "b1", 2, 5)
    assert standing(other, end) is other


def test_keys_are_dropped_once_a_day_and_again_where_that_was_not_committed() -> None:
    clock, drop, tables = ManualClock(datetime(2026, 1, 2, tzinfo=UTC)), DailyDrop(), Tables()
    apply(tables, KEY)
    apply(tables, RouteKey("nonsense", KEY.wrapped))
    for _ in range(2):  # the second day it is over
        drop.drop(tables, clock.epoch_ms())
        left = tables.names(KEYS)
        clock.advance(timedelta(days=1))
    assert left == [b"nonsense"]
    apply(tables, KEY)
    drop.drop(tables, clock.epoch_ms())  # the transaction before was lost
    assert tables.names(KEYS) == [b"nonsense"]
    drop.done(clock.epoch_ms())
    apply(tables, KEY)
    drop.drop(tables, clock.epoch_ms())  # nothing to do that day; what comes is `standing`'s
    assert len(tables.names(KEYS)) == 2
