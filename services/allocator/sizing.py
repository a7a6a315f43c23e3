"""Pool mathematics: how many numbers a load needs, and how long those that there are last. Pure.

Refuses to guess: whatever it says follows from what it is given. Invariant: an advice is the least
that holds the load; a binding holds its place for its life and its rest.
"""

from dataclasses import dataclass
from typing import Final

from services.allocator.domain import BLOCK_SIZE, DAY_MS, MAX_PAIRS, UNKNOWN, Outlook, Policy

_HOUR_MS: Final = 3_600_000
_SHORTEST_MS: Final = 60_000  # a rate of less than a minute is one of chance


@dataclass(frozen=True, slots=True)
class Load:
    """What a pool is to bear."""

    policy: Policy
    orders_per_day: int
    life_ms: int
    cooling_ms: int
    most_of_one_party: int = 1


@dataclass(frozen=True, slots=True)
class Advice:
    """What it takes: `places` held at a time, numbers for all of them and for the busiest party."""

    places: int
    numbers_of_one_party: int
    numbers: int
    blocks: int


def advise(load: Load) -> Advice:
    """The smallest pool that holds the load."""
    held_ms = load.life_ms + load.cooling_ms
    places = _up(load.orders_per_day * held_ms, DAY_MS)
    one = _up(load.most_of_one_party * held_ms, load.life_ms)
    pairs = MAX_PAIRS if load.policy is Policy.SHARED else 1
    numbers = max(one, _up(places, pairs))
    return Advice(places, one, numbers, _up(numbers, BLOCK_SIZE))


def outlook(left: int, used: int, before: int, span_ms: int) -> Outlook:
    """What follows if use, `before` it a time ago, goes on as it did; `left`: what is not used."""
    if span_ms < _SHORTEST_MS:
        return UNKNOWN
    grown = used - before
    per_hour = round(grown * _HOUR_MS / span_ms)
    return Outlook(per_hour, left * span_ms // grown if grown > 0 else None)


def _up(value: int, by: int) -> int:
    return -(-value // by)
