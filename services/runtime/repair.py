"""Finds stale records on a cell's own compacted topics (design decision 3).

A relay frozen before its produce may append an old record behind a newer one when it wakes, and
compaction would keep it. The owner therefore reads its own topics; a record of an older term is
suspected until a newer one of its key is seen, and if it is still the last of its key at the end
of the topic, the service is asked to repair it. Invariant: the verified offsets stand in the store,
so a record is verified by some owner even if it landed while there was none.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from services.runtime.cell import Cell
from services.runtime.consumer import Follower, Position
from services.runtime.envelope import header_int
from services.runtime.errors import Malformed, contradicted
from services.runtime.metrics import Metrics, Name
from services.runtime.parking import Parker, Parking
from services.runtime.rebuild import Rebuild, check_headers
from services.runtime.record import Record

_log = logging.getLogger(__name__)
_ASK_SECONDS: Final = 0.25
_GATHER_MS: Final = 500


class Repair:
    """Follows the topics of one term; see `run`."""

    def __init__(
        self,
        cell: Cell,
        bootstrap: str,
        rebuild: Rebuild,
        epoch: int,
        metrics: Metrics,
        parking: Parking | None = None,
    ) -> None:
        self._cell = cell
        self._bootstrap = bootstrap
        self._rebuild = rebuild
        self._epoch = epoch
        self._parker: Parking = parking or Parker(bootstrap, metrics)
        self._repairs = metrics.counter(Name.REPAIRS, cell=cell.name)
        self._loop = asyncio.get_running_loop()
        # The follower's thread adds suspects and moves `_verified` past them in one step.
        self._lock = threading.Lock()
        self._suspects: dict[tuple[str, bytes], tuple[float, Record]] = {}
        self._verified: dict[Position, int] = {}
        self._start: dict[Position, int] = {}
        self._lost = False

    async def run(self) -> None:
        """Repairs until cancelled. Raises what reading Kafka or the store raises."""
        key = self._cell.key("positions")
        stored: dict[Any, Any] = await self._cell.redis.hgetall(key)
        for name, offset in stored.items():
            kind, _, rest = name.decode().partition("/")
            if kind == "verified":
                topic, _, partition = rest.rpartition("/")
                self._start[topic, int(partition)] = int(offset)
        stop = threading.Event()
        follower: Follower[None] = Follower(
            self._bootstrap,
            self._rebuild.topics,
            check_headers,
            self,
            self._parker,
            group=None,
            gather_ms=_GATHER_MS,
        )
        reading = asyncio.create_task(asyncio.to_thread(follower.run, stop))
        try:
            while not reading.done():
                await asyncio.wait([reading], timeout=_ASK_SECONDS)
                await self._announced()
                await self._settle(follower.fresh_at, key)
            await reading
        finally:
            stop.set()

    def positions(self) -> Mapping[Position, int]:
        """See Sink: where the owner before had come to."""
        return self._start

    def void(self, positions: Mapping[Position, str]) -> None:
        """See Sink: everything is verified from the start, and what Kafka has lost is published
        again. If we die before that, the next owner finds the same positions void."""
        topics = {topic for topic, _ in positions}
        with self._lock:
            self._start = {at: end for at, end in self._start.items() if at not in positions}
            self._verified = {at: end for at, end in self._verified.items() if at[0] not in topics}
            self._lost = True

    def apply(
        self, items: Sequence[tuple[Record, None]], positions: Mapping[Position, int]
    ) -> None:
        """See Sink. On the follower's thread."""
        with self._lock:
            for record, _ in items:
                place = (record.topic, record.key)
                if header_int(record.headers, "ce_axepoch") < self._epoch:
                    self._suspects[place] = (time.time(), record)
                elif self._suspects:
                    self._suspects.pop(place, None)
            self._verified.update(positions)

    async def _announced(self) -> None:
        """Before anything is called verified: what was lost is not among what is read."""
        with self._lock:
            lost, self._lost = self._lost, False
        if lost:
            _log.error("kafka has lost what the store has; publishing all of it")
            await self._rebuild.announce()

    async def _repaired(self, record: Record) -> bool:
        try:
            return await self._rebuild.repair(record)
        except Malformed as why:  # parked first: once overruled it is suspected no more
            await asyncio.to_thread(self._parker.park, record, why)
            if why.reason != contradicted().reason:
                return False
            return await self._rebuild.repair(record, overrule=True)

    async def _settle(self, fresh_at: float, key: str) -> None:
        with self._lock:
            suspects = list(self._suspects.items())
        for place, suspect in suspects:
            seen_at, record = suspect
            # Only once the topics' ends as of a later moment were read: nothing newer follows.
            if seen_at >= fresh_at:
                continue
            if not record.key.startswith(b"cell/") and await self._repaired(record):
                self._repairs.inc()
            with self._lock:  # another stale record of the key may have come meanwhile
                if self._suspects.get(place) is suspect:
                    del self._suspects[place]
        with self._lock:
            if self._suspects:
                return
            verified, self._verified = self._verified, {}
        if verified:
            await self._cell.redis.hset(
                key, mapping={f"verified/{t}/{p}": offset for (t, p), offset in verified.items()}
            )
