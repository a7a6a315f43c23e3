"""Trips from a taxi file as orders: who is bound when, and who calls when.

Reads any CSV with pickup and drop-off times, under our names or the TLC's. Refuses rows that are no
trip and says how many. Invariant: the same file and seed give the same orders, numbers and calls.
"""

import csv
import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

# Issued mainland mobile prefixes; the numbers are made up and may be somebody's, so they are only
# ever given to a local cluster.
_PREFIXES: Final = (
    *("134", "135", "136", "137", "138", "139", "150", "151", "152", "157", "158", "159"),
    *("182", "183", "187", "188", "130", "131", "132", "155", "156", "185", "186"),
    *("133", "153", "180", "181", "189"),
)
_PICKUP: Final = ("pickup", "tpep_pickup_datetime", "lpep_pickup_datetime", "pickup_datetime")
_DROPOFF: Final = ("dropoff", "tpep_dropoff_datetime", "lpep_dropoff_datetime", "dropoff_datetime")
_BEFORE: Final = timedelta(minutes=5)  # bound so long before the pickup
_AFTER: Final = timedelta(minutes=10)  # and released so long after the drop-off
_DRIVERS: Final = 500


class NotTrips(Exception):
    """The file has no column of pickup or drop-off times."""


@dataclass(frozen=True, slots=True)
class PlannedCall:
    """One call to place. `late`: the binding is released by then."""

    at: datetime
    by_rider: bool
    late: bool
    talk_seconds: float


@dataclass(frozen=True, slots=True, repr=False)
class Order:
    """One trip as the platform sees it."""

    number: int
    rider: str  # E.164
    driver: str
    bind_at: datetime
    release_at: datetime
    calls: tuple[PlannedCall, ...]


def mobile(seed: str) -> str:
    """A valid mainland mobile number in E.164, made from the seed."""
    value = int.from_bytes(hashlib.blake2b(seed.encode(), digest_size=8).digest(), "big")
    return f"+86{_PREFIXES[value % len(_PREFIXES)]}{value // 64 % 100_000_000:08d}"


def read_orders(path: Path, seed: int = 1, limit: int | None = None) -> tuple[list[Order], int]:
    """The trips of a file as orders by time of binding, and how many rows are no trip.

    Raises:
        NotTrips: the columns are missing.
        OSError: the file cannot be read.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        names = [name.strip() for name in rows.fieldnames or ()]
        rows.fieldnames = names
        pickup = next((name for name in _PICKUP if name in names), None)
        dropoff = next((name for name in _DROPOFF if name in names), None)
        if pickup is None or dropoff is None:
            raise NotTrips(f"{path.name}: no column of pickup and drop-off times")
        trips = list(_trips(rows, pickup, dropoff))
    good = [trip for trip in trips if trip is not None]
    orders = [_order(i, *trip, seed) for i, trip in enumerate(good[:limit], 1)]
    return sorted(orders, key=lambda order: order.bind_at), len(trips) - len(good)


def _trips(
    rows: "csv.DictReader[str]", pickup: str, dropoff: str
) -> Iterator[tuple[datetime, datetime] | None]:
    for row in rows:
        try:
            begin = datetime.fromisoformat((row[pickup] or "").strip())
            end = datetime.fromisoformat((row[dropoff] or "").strip())
            yield (begin, end) if begin < end < begin + timedelta(days=1) else None
        except (ValueError, TypeError):
            yield None


def _order(number: int, begin: datetime, end: datetime, seed: int) -> Order:
    chance = random.Random(f"{seed}/{number}")
    bind_at, release_at = begin - _BEFORE, end + _AFTER
    calls = []
    for _ in range(chance.choice((2, 2, 3))):
        late = chance.random() < 0.15
        after = release_at + timedelta(minutes=chance.uniform(1, 30))
        during = bind_at + chance.random() * (release_at - bind_at)
        calls.append(
            PlannedCall(
                at=after if late else during,
                by_rider=chance.random() < 0.5,
                late=late,
                talk_seconds=round(chance.expovariate(1 / 40), 1),
            )
        )
    return Order(
        number=number,
        rider=mobile(f"rider/{seed}/{number}"),
        driver=mobile(f"driver/{seed}/{chance.randrange(_DRIVERS)}"),
        bind_at=bind_at,
        release_at=release_at,
        calls=tuple(sorted(calls, key=lambda call: call.at)),
    )
