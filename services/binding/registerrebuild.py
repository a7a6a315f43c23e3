"""Restores and repairs registers from the cell's compacted topics: BindingRebuild's other half.

Refuses to bring back what was dropped: a record that the store does not know is deleted on Kafka.
Invariant: after a heal the store has of each register the newest version that Kafka has, and
routers are told again wherever they believe another thing of a blacklist than the store.
"""

import asyncio
import heapq
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from axbridge.binding.v1 import events_pb2
from google.protobuf.message import DecodeError

from services.binding.registers import Place, Register, RegisterRecords
from services.binding.registerstore import CellRegisters
from services.runtime import topics
from services.runtime.clock import Clock
from services.runtime.envelope import header_int
from services.runtime.errors import Malformed
from services.runtime.keyring import KeyDestroyed
from services.runtime.record import Record

_UNSURE: Final = 1000  # as in rebuild.py
Opener = Callable[[events_pb2.StateRecord], Register]


class RegisterRebuild:
    """`open` knows for each kind of state how to make a register of it."""

    def __init__(
        self,
        registers: CellRegisters,
        records: RegisterRecords,
        openers: Mapping[str, Opener],
        clock: Clock,
    ) -> None:
        self._registers = registers
        self._records = records
        self._openers = openers
        self._clock = clock
        self.begin()

    def begin(self) -> None:
        """A heal begins: what a broken-off one kept in mind is forgotten."""
        self._recent: list[tuple[int, Place]] = []
        self._erased: dict[Place, int] = {}
        self._untrue: dict[Place, int] = {}

    async def restore(self, records: Sequence[Record], epoch: bytes) -> Sequence[Record]:
        """Puts what is of registers; gives back what is of something else."""
        ours, others = [], []
        for record in records:
            place = Place.parse(record.key.decode())
            others += [record] if place is None else []
            ours += [self._restore(place, record, epoch)] if place is not None else []
        await asyncio.gather(*ours)
        return others

    async def _restore(self, place: Place, record: Record, epoch: bytes) -> None:
        """Puts a record, or a tombstone, where it is newer. Denials come after all states, and only
        show what routers believe: a relay died between the two, or was frozen in between."""
        if record.topic == topics.BINDING_DENIALS.name:
            raw = await self._registers.get(place, epoch)
            stands = None if raw is None else self._records.on(record.topic, raw.state)
            if record.value == stands:
                self._untrue.pop(place, None)
            else:
                self._untrue[place] = header_int(record.headers, "ce_axversion")
        elif record.value is None:
            self._erased.pop(place, None)
            raw = await self._registers.get(place, epoch)
            if raw is not None:
                await self._registers.drop(raw, b"", epoch)
        else:
            # Opened before anything is awaited: the store gets records in their order.
            register = self._opened(record.value)
            if register is not None:
                await self._registers.restore(register, epoch)
                heapq.heappush(self._recent, (header_int(record.headers, "ce_axsequence"), place))
                if len(self._recent) > _UNSURE:
                    heapq.heappop(self._recent)
            else:
                self._erased[place] = header_int(record.headers, "ce_axversion")

    async def finish(self, epoch: bytes) -> None:
        """Announces the last versions once more: of their entries a part may not have arrived. What
        was erased is not restored, so nothing would ever delete its record: it is deleted here."""
        await asyncio.gather(*(self._delete(*each, epoch) for each in self._erased.items()))
        recent = {place for _, place in self._recent} - self._untrue.keys()
        await asyncio.gather(*(self.announce(each, epoch) for each in recent))
        await asyncio.gather(*(self._correct(*each, epoch) for each in self._untrue.items()))
        self.begin()

    async def repair(self, record: Record) -> bool | None:
        """See Rebuild. None: it is no register's."""
        place = Place.parse(record.key.decode())
        if place is None:
            return None
        raw, seen = await self._registers.get(place), header_int(record.headers, "ce_axversion")
        if raw is None:
            if record.value is not None:  # never acknowledged, or dropped long ago
                await self._delete(place, seen, None)
            return record.value is not None
        if record.value == self._records.on(record.topic, raw.state):
            return False
        if (
            seen > raw.version
            and record.value is not None
            and record.topic == topics.BINDING_STATE.name
        ):
            # A write that was never acknowledged came through after all: it has happened.
            register = self._opened(record.value)
            if register is not None:
                await self._registers.restore(register)
        await self.announce(place)
        return True

    async def announce(self, place: Place, epoch: bytes | None = None) -> int:
        """Publishes the version that stands once more; what to wait for."""
        raw = await self._registers.get(place, epoch)
        if raw is None:
            return 0
        entry = self._records.entry(raw.state)
        return await self._registers.republish(place, raw.version, entry, epoch)

    async def announce_name(self, name: str) -> int:
        """`announce` by a place's text."""
        place = Place.parse(name)
        return 0 if place is None else await self.announce(place)

    async def _correct(self, place: Place, version: int, epoch: bytes) -> None:
        """Says what is true: what stands, or that nothing does."""
        if not await self.announce(place, epoch):
            await self._delete(place, version, epoch)

    async def _delete(self, place: Place, version: int, epoch: bytes | None) -> None:
        entry = self._records.tombstones(place, version, self._clock.epoch_ms())
        await self._registers.republish(place, 0, entry, epoch)

    def _opened(self, value: bytes) -> Register | None:
        """None for one whose purge bucket is erased: the retention is over."""
        try:
            state = events_pb2.StateRecord.FromString(value)
            return self._openers[state.WhichOneof("record") or ""](state)
        except (DecodeError, KeyError):
            raise Malformed("STATE_MALFORMED") from None
        except KeyDestroyed:
            return None
