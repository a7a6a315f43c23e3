"""Does what is due on registers: drains the bindings of who withdrew (R5), ends entries of
blacklists whose time is over, forgets what has ended.

Refuses to call a consent drained while a live binding of its person could outlast the grace period.
Invariant: it begins again from the start wherever it was broken off, and what was done then is left
as it is: each binding drains once, and is released once, by the sweeper of expiries.
"""

import asyncio
import contextlib
from typing import Final

from services.binding.blacklistmessages import BlacklistMessages
from services.binding.consent import Consent
from services.binding.consentmessages import ConsentMessages
from services.binding.domain import Binding
from services.binding.ports import BROKEN_MS, Consents, Lost, Swept
from services.binding.registers import Place, RegisterRecords
from services.binding.registerstore import CellRegisters, Raw
from services.runtime.clock import Clock
from services.runtime.errors import DataLoss, Unavailable
from services.runtime.keyring import KeyDestroyed
from services.runtime.metrics import Metrics, Name
from services.runtime.telemetry import logger

_PAGE: Final = 200
_ACK_SECONDS: Final = 30.0
_IDLE_SECONDS: Final = 0.2
_LOG: Final = logger(__name__)


class Drain:
    """Brings the bindings of a withdrawn consent's person to their end."""

    def __init__(self, consents: Consents, bindings: Swept, clock: Clock) -> None:
        self._consents = consents
        self._bindings = bindings
        self._clock = clock

    async def __call__(self, consent: Consent) -> int:
        """Drains all of them, then says so; the sequence of that. Nothing new can come meanwhile:
        creates and grants are refused while the mark says that it drains. Raises Lost."""
        assert consent.withdrawal is not None
        until, behind = consent.withdrawal.drain_ms, ""
        while True:
            live, behind = await self._bindings.live(consent.tenant, consent.tag, behind, _PAGE)
            last = max(await asyncio.gather(*(self._one(each, until) for each in live)), default=0)
            await self._bindings.published(last, _ACK_SECONDS)
            if not behind:
                break
        drained = consent.drained(self._clock.epoch_ms())
        return await self._consents.put(drained, None, consent.mark)

    async def _one(self, identity: str, until: int) -> int:
        while True:
            try:
                stored = await self._bindings.get(identity)
            except DataLoss as why:  # it cannot be extended either: its expiry ends it
                _LOG.error("cannot be drained", binding=identity, reason=why.reason)
                return 0
            now = self._clock.epoch_ms()
            if stored is None or not _outlasts(stored.binding, until, now):
                return 0
            try:
                return await self._bindings.release(stored, stored.binding.draining(until, now))
            except Lost:  # extended or released meanwhile: look again
                continue


def _outlasts(binding: Binding, until: int, now: int) -> bool:
    """Whether it could be live after the grace period: also one that expires before, for it could
    be extended; from its expiry on it cannot."""
    drains = 0 < binding.drain_ms <= until
    return binding.live and not drains and binding.terms.expire_ms > now


class Upkeep:
    """Does what is due, for ever: a job of the cell's owner."""

    def __init__(
        self,
        registers: CellRegisters,
        records: RegisterRecords,
        messages: ConsentMessages,
        blacklist: BlacklistMessages,
        drain: Drain,
        metrics: Metrics,
    ) -> None:
        self._registers = registers
        self._records = records
        self._messages = messages
        self._blacklist = blacklist
        self._drain = drain
        self._unreadable = metrics.counter(Name.SWEEP_UNREADABLE, job="upkeep")

    async def run(self) -> None:
        """Until cancelled. While the store or Kafka is away it waits."""
        while True:
            try:
                idle = not await self.once()
            except Unavailable as why:
                _LOG.warning("upkeep waits", reason=why.reason)
                idle = True
            if idle:
                await asyncio.sleep(_IDLE_SECONDS)

    async def once(self) -> int:
        """What is due now; how much of it was done."""
        now, places = await self._registers.due(_PAGE)
        done = 0
        for place in places:
            try:
                done += await self._one(place, now)
            except DataLoss as why:  # it must not keep the others from theirs: they come behind it
                await self._registers.postpone(place, now + BROKEN_MS)
                self._unreadable.inc()
                _LOG.error("unreadable", kind=place.kind, id=place.id, reason=why.reason)
        return done

    async def _one(self, place: Place, now: int) -> bool:
        raw = await self._registers.get(place)
        if raw is None:
            return False
        try:
            if await self._changed(raw, now):
                return True
        except KeyDestroyed:  # its bucket was erased: its retention is over
            _LOG.info("erased", kind=place.kind, id=place.id)
        except Lost:
            return False
        entry = self._records.tombstones(raw.place, raw.version, now)
        with contextlib.suppress(Lost):
            await self._registers.drop(raw, entry)
            return True
        return False

    async def _changed(self, raw: Raw, now: int) -> bool:
        """Makes the version that is due; False: the register is to be forgotten. Raises Lost."""
        if raw.place.kind == "blacklist":
            entry = self._blacklist.entry(raw.state.blacklist_entry)
            if entry.active:
                # `now` is the store's clock: creates and routers ended it by theirs already.
                ended = self._blacklist.register(entry.ended(now))
                await self._registers.put(ended, entry.version, None)
            return entry.active
        consent = self._messages.consent(raw.state.consent)
        if consent.due_ms == 0:
            await self._drain(consent)
            return True
        return False
