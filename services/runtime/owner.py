"""Owns a cell while it can: heals it, relays its outbox, repairs its topics, runs its jobs.

Every process of a service runs an Owner; the lease in the cell lets one of them work. Refuses to do
anything between losing the lease and holding it again. Invariant: what an owner does after its
term is over has no effect, since every function that matters checks owner and epoch.

An owner whose clock comes to disagree with the store's gives way, since its jobs rest then. Where
all clocks disagree (the store's has stepped) one of them owns the cell all the same and relays.
"""

import asyncio
import contextlib
import logging
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from confluent_kafka import KafkaException
from redis.exceptions import RedisError

from services.runtime.cell import Cell
from services.runtime.errors import Unavailable
from services.runtime.metrics import Metrics, Name
from services.runtime.publisher import Publisher, PublishFailed, Publishing
from services.runtime.rebuild import Rebuild, heal
from services.runtime.relay import Deposed, Relay
from services.runtime.repair import Repair
from services.runtime.tasks import ended

LEASE_MS: Final = 3000
_KEEP_SECONDS: Final = 1.0  # a third of the lease: two renewals may fail
_RETRY_SECONDS: Final = 0.2
_GIVE_WAY_SECONDS: Final = 2.0  # ten tries of those whose clock is right

_log = logging.getLogger(__name__)

Job = Callable[[], Awaitable[None]]


class Owner:
    """Competes for a cell until cancelled; see `run`."""

    def __init__(
        self,
        cell: Cell,
        bootstrap: str,
        rebuild: Rebuild,
        *,
        jobs: Sequence[Job] = (),
        connect: Callable[[], Publishing] | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._cell = cell
        self._bootstrap = bootstrap
        self._rebuild = rebuild
        self._jobs = jobs
        self._connect = connect or (lambda: Publisher(bootstrap))
        self._metrics = metrics or Metrics(cell.service)
        self._owns = self._metrics.gauge(Name.CELL_OWNER, cell=cell.name)
        self._waiting = self._metrics.gauge(Name.OUTBOX_WAITING, cell=cell.name)
        self._heals = self._metrics.counter(Name.HEALS, cell=cell.name)
        self._owner = uuid.uuid4().hex
        self._relay = Relay(cell, self._owner, self._connect, self._metrics)
        self.owning = False

    async def run(self) -> None:
        """Owns the cell whenever nobody else does, for ever. Resigns when cancelled."""
        await self._loaded()
        try:
            while True:
                try:
                    await self._turn()
                except (
                    Unavailable,
                    Deposed,
                    PublishFailed,
                    RedisError,
                    KafkaException,
                    OSError,
                ) as why:
                    _log.warning("ownership interrupted: %s", type(why).__name__)
                if self._cell.skewed:
                    await self._resign()
                    await asyncio.sleep(_GIVE_WAY_SECONDS)
                await asyncio.sleep(_RETRY_SECONDS)
        finally:
            await self._resign()

    async def _resign(self) -> None:
        with contextlib.suppress(Unavailable, RedisError):
            await self._cell.raw("resign", args=(self._owner,))

    async def rebuild(self) -> Mapping[str, int]:
        """Restores the cell now, whoever owns it, and gives it up again; how many records of each
        topic were read. Raises what `heal` raises, and Deposed."""
        await self._cell.load()
        healing = asyncio.ensure_future(self._heal(force=True))
        try:
            await self._while_kept(self._keep(), healing)
        finally:
            with contextlib.suppress(Unavailable, RedisError):
                await self._cell.raw("resign", args=(self._owner,))
        counts = healing.result()
        if counts is None:
            raise Deposed("HEALING")
        return counts

    async def _heal(self, *, force: bool = False) -> Mapping[str, int] | None:
        return await heal(
            self._cell,
            self._owner,
            LEASE_MS,
            self._bootstrap,
            self._rebuild,
            self._announce,
            force=force,
        )

    async def _loaded(self) -> None:
        while True:
            try:
                return await self._cell.load()
            except Unavailable:
                await asyncio.sleep(_RETRY_SECONDS)

    async def _turn(self) -> None:
        # A new term, also after one of our own that was cut short: what that one had under way may
        # still reach Kafka, and must be known by its older epoch.
        answer, *rest = await self._cell.raw("acquire", args=(self._owner, LEASE_MS, 1))
        if answer == b"OTHER":
            return
        if answer == b"LOST" or rest[2] != b"ready":
            _log.warning("healing the store from Kafka")
            self._heals.inc()
            await self._while_kept(self._keep(), self._heal())
            return
        await self._own(int(rest[0]), int(rest[1]))

    async def _own(self, epoch: int, acked: int) -> None:
        if not await self._cell.refresh():
            raise Deposed("HEALING")
        repair = Repair(self._cell, self._bootstrap, self._rebuild, epoch, self._metrics)
        work = [self._relayed(epoch, acked), repair.run(), *(job() for job in self._jobs)]
        _log.info("owns the cell")
        self.owning = True
        self._owns.set(1)
        try:
            await self._while_kept(self._keep(whole=True), *work)
        finally:
            self.owning = False
            self._owns.set(0)
            self._waiting.set(0)

    async def _relayed(self, epoch: int, acked: int) -> None:
        await self._announce(epoch)
        await self._relay.run(epoch, acked)

    async def _announce(self, epoch: int) -> None:
        """Makes the term known to Kafka, so that a later heal begins above it."""
        publisher = self._connect()
        try:
            await self._relay.publish_now(self._rebuild.cell_record(epoch), publisher, epoch)
        finally:
            publisher.close()

    async def _while_kept(self, *work: Awaitable[object]) -> None:
        """Runs `work`, of which one part keeps the lease; ends with the first that ends."""
        tasks = [asyncio.ensure_future(each) for each in work]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await ended(tasks)

    async def _keep(self, whole: bool = False) -> None:
        """Keeps the lease; with `whole` only as long as nobody marks the store as one to heal: an
        owner that went on would keep everybody from healing it."""
        skewed = self._cell.skewed
        while True:
            await asyncio.sleep(_KEEP_SECONDS)
            if self._cell.skewed and not skewed:
                raise Deposed("SKEWED")
            skewed = self._cell.skewed
            answer, *rest = await self._cell.raw("acquire", args=(self._owner, LEASE_MS))
            if answer != b"OWNER":
                raise Deposed(answer.decode())
            if whole and rest[2] != b"ready":
                raise Deposed("HEALING")
            self._waiting.set(max(0, int(rest[3]) - int(rest[1])))
