"""What anybody may know of a 700 number (CheckNumber), and how often anybody may ask. Pure.

Refuses to say who is bound, or whether anybody is: the answer is that of the number's block. Each
asker has a bucket of questions, and all together another, so nobody walks the range quickly and
checks never take the workers from calls. Invariant: what it keeps of askers is bounded.
"""

import threading
from datetime import timedelta
from typing import Final, NamedTuple

from services.router.dialplan import parse_dialled
from services.router.directory import Platform
from services.router.ports import Platforms
from services.runtime.clock import Clock
from services.runtime.errors import InvalidArgument, ResourceExhausted

_KEPT: Final = 10_000  # askers remembered; the oldest is forgotten, and begins with a full bucket
_ALL: Final = 20  # times what one asker may: of a worker, by all together


class _Bucket(NamedTuple):
    left: float
    at: float


class Checks:
    """`rate`: questions a second of one asker, who may ask ten seconds' worth at once."""

    def __init__(self, platforms: Platforms, clock: Clock, rate: float) -> None:
        self._platforms, self._now, self._rate = platforms, clock.monotonic, rate
        self._buckets: dict[str, _Bucket] = {}
        self._lock = threading.Lock()

    def check(self, text: str, asker: str) -> Platform | None:
        """The platform that holds the number; None: it is no genuine one.

        Raises:
            InvalidArgument: NUMBER_INVALID: not a number of the 700 range.
            ResourceExhausted: OVERLOADED.
        """
        with self._lock:
            self._take("", self._rate * _ALL)
            self._take(asker, self._rate)
        number = parse_dialled(text)
        if number is None:
            raise InvalidArgument("NUMBER_INVALID", "15 digits that begin with 700", field="number")
        return self._platforms.holder(number)

    def _take(self, asker: str, rate: float) -> None:
        now = self._now()
        most = 10 * rate
        bucket = self._buckets.pop(asker, _Bucket(most, now))
        left = min(most, bucket.left + (now - bucket.at) * rate)
        if len(self._buckets) >= _KEPT:
            del self._buckets[next(iter(self._buckets))]
        self._buckets[asker] = _Bucket(max(0.0, left - 1), now)
        if left < 1:
            raise ResourceExhausted(
                "OVERLOADED", "too many checks", retry_after=timedelta(seconds=1)
            )
