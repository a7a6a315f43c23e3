"""Releases bindings whose time is over, and forgets ended ones: jobs of the cell's owner.

Refuses to work while its clock and the store's disagree by 2 s (design decision 16). Invariant:
whether a binding is due is decided by the store's clock inside the function that releases it, and
only from the version that was read, so none is released early or twice.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Literal

from services.binding.domain import Reason
from services.binding.modes import unnamed
from services.binding.ports import BROKEN_MS, Stored, Sweeps, Unreadable
from services.runtime.clock import Clock
from services.runtime.errors import Unavailable
from services.runtime.metrics import Metrics, Name
from services.runtime.telemetry import logger

_BATCH: Final = 500  # of a round: about 60 ms of work, in steps of which others have their turns
_IDLE_SECONDS: Final = 0.1
_RETRY_SECONDS: Final = 0.5
_SKEW_MS: Final = 2000
_ACK_SECONDS: Final = 30.0
_LOG: Final = logger(__name__)


class Sweeper:
    """One of the two jobs; see `expiry` and `forgetter`."""

    def __init__(
        self,
        what: Literal["expiry", "forget"],
        bindings: Sweeps,
        apply: Callable[[Sequence[Stored], int], Awaitable[Sequence[int | Unreadable]]],
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._what = what
        self._bindings = bindings
        self._apply = apply
        self._clock = clock
        self._lag = metrics.histogram(Name.SWEEP_LAG_SECONDS, job=what)
        self._skew = metrics.gauge(Name.STORE_CLOCK_SKEW_SECONDS)
        self._halted = metrics.gauge(Name.SWEEPER_STOPPED, job=what)
        self._unreadable = metrics.counter(Name.SWEEP_UNREADABLE, job=what)
        self._stopped = False

    async def run(self) -> None:
        """Sweeps until cancelled. While the store or Kafka is away it waits."""
        before = 0
        while True:
            try:
                count, sequence = await self.sweep()
                # One batch is worked on while Kafka takes the one before: the outbox stays short.
                await self._bindings.published(before, _ACK_SECONDS)
                before = sequence
            except Unavailable as why:
                _LOG.warning("sweeper waits", job=self._what, reason=why.reason)
                before, count = 0, 0
                await asyncio.sleep(_RETRY_SECONDS)
            if count < _BATCH:
                await asyncio.sleep(_IDLE_SECONDS)

    async def sweep(self) -> tuple[int, int]:
        """One batch: how many it ended, and the highest outbox sequence."""
        now, ids = await self._bindings.due(self._what, _BATCH)
        skew = now - self._clock.epoch_ms()
        self._skew.set(skew / 1000)
        self._halted.set(abs(skew) > _SKEW_MS)
        if abs(skew) > _SKEW_MS:
            if not self._stopped:
                _LOG.error("clocks disagree, nothing is swept", job=self._what, skew_ms=skew)
            self._stopped = True
            return 0, 0
        self._stopped = False
        readable = []
        for identity, stored in zip(ids, await self._bindings.read(ids), strict=True):
            if isinstance(stored, Stored):
                readable.append(stored)
            elif stored is not None:
                await self._put_off(identity, now, stored)
        sequences = []
        for stored, outcome in zip(readable, await self._apply(readable, now), strict=True):
            b = stored.binding
            if not isinstance(outcome, int):
                await self._put_off(b.id, now, outcome)
            elif outcome:  # else it was released, extended or forgotten by another hand
                sequences.append(outcome)
                due = b.due_ms if self._what == "expiry" else b.forget_ms
                self._lag.observe(max(0, now - due) / 1000)
        return len(sequences), max(sequences, default=0)

    async def _put_off(self, binding: str, now: int, why: Unreadable) -> None:
        """Records that cannot be read must neither keep the others from ending nor be tried without
        end: they lead the queue. They are looked at once an hour."""
        await self._bindings.postpone(self._what, binding, now + BROKEN_MS)
        self._unreadable.inc()
        _LOG.error("cannot be swept", job=self._what, binding=binding, reason=why.reason)


def expiry(bindings: Sweeps, clock: Clock, metrics: Metrics) -> Sweeper:
    """Releases bindings at their expiry, reason EXPIRED, and drops temporary callees."""

    async def release(found: Sequence[Stored], now: int) -> Sequence[int | Unreadable]:
        over = [each for each in found if each.binding.terms.expire_ms <= now]
        ends = [(each, each.binding.released(now, Reason.EXPIRED)) for each in over]
        named = [each for each in found if each.binding.terms.expire_ms > now]
        changes = [(each, unnamed(each.binding, now)) for each in named]
        done = [*await bindings.expire(ends), *await bindings.unname(changes)]
        outcomes = dict(zip((each.binding.id for each in (*over, *named)), done, strict=True))
        return [outcomes[each.binding.id] for each in found]

    return Sweeper("expiry", bindings, release, clock, metrics)


def forgetter(bindings: Sweeps, clock: Clock, metrics: Metrics) -> Sweeper:
    """Forgets ended bindings at the later of their cooling's end and 24 h."""

    async def forget(found: Sequence[Stored], _now: int) -> Sequence[int | Unreadable]:
        return await bindings.forget(found)

    return Sweeper("forget", bindings, forget, clock, metrics)
