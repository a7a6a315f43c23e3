"""Route keys: one per tenant and day of expiry, on Kafka before anything is sealed by it.

Refuses to invent a key where the cell has one, and to make or give out one whose day is over.
Invariant: a key that `get` returned is acknowledged by Kafka, so no route copy exists that routers
cannot come to open.
"""

import asyncio
from datetime import UTC, datetime
from typing import Final

from axbridge.binding.v1 import events_pb2

from services.binding.messages import sealed, timestamp, unsealed
from services.binding.records import Records
from services.binding.vault import RouteSeal
from services.runtime.cell import Argument, Cell
from services.runtime.clock import Clock
from services.runtime.keyring import KeyDestroyed, KeyRing
from services.runtime.wrapping import (
    new_route_key,
    route_key_over,
    unwrap_route_key,
    wrap_route_key,
    wrapping_name,
)

_CACHED: Final = 10_000  # keys: a month of 300 tenants


class RouteKeys:
    """The route keys of a cell, in memory once asked for. `label` names the wrapping keys."""

    def __init__(
        self, cell: Cell, records: Records, keyring: KeyRing, clock: Clock, label: str = "1"
    ) -> None:
        self._cell = cell
        self._records = records
        self._keyring = keyring
        self._clock = clock
        self._label = label
        self._known: dict[str, RouteSeal] = {}
        self._making: dict[str, asyncio.Task[RouteSeal]] = {}

    async def get(self, key_id: str, epoch: bytes | None = None) -> RouteSeal:
        """The key of that id.

        Raises:
            Unavailable: also LOG_UNAVAILABLE.
            KeyDestroyed: its day is over.

        `epoch`: the healer's, while nobody else can write and nothing is relayed.
        """
        known = self._known.get(key_id)
        if known is not None:
            return known
        making = self._making.get(key_id)
        if making is None:  # all who ask meanwhile share its outcome, a failure too
            making = asyncio.create_task(self._make(key_id, epoch))
            self._making[key_id] = making
            making.add_done_callback(lambda _: self._making.pop(key_id, None))
        return await asyncio.shield(making)

    def forget_over(self) -> None:
        """Drops from memory what is over."""
        now = self._clock.now()
        self._known = {k: seal for k, seal in self._known.items() if not route_key_over(k, now)}

    async def _make(self, key_id: str, epoch: bytes | None) -> RouteSeal:
        self.forget_over()
        if route_key_over(key_id, self._clock.now()):
            raise KeyDestroyed("KEY_DESTROYED", "the key's day is over", key=key_id)
        record = self._record(key_id, new_route_key())
        entry = self._records.route_key(key_id, record, self._clock.epoch_ms())
        key = self._cell.key("key", key_id)
        _, stands, sequence = await self._cell.call_under(epoch, "put_key", [key], [record, entry])
        if int(sequence) and epoch is None:
            await self._cell.published(int(sequence))
        made = RouteSeal(key_id, self._opened(events_pb2.RouteKey.FromString(stands)))
        if epoch is None:  # else Kafka does not have it yet, and a heal that breaks off loses it
            if len(self._known) >= _CACHED:
                self._known.clear()
            self._known[key_id] = made
        return made

    async def end(self, key_id: str, seen: int = 0) -> None:
        """Ends a key that is over: its wrapping keys in the ring, then its record, for ever.

        Dying between the two leaves a record that nothing opens; the next time finds it again.
        `seen`: the version of a record of it that came late, where the store has none.
        """
        _, stands, version, now = await self._cell.call("get_key", [self._key(key_id)])
        if not route_key_over(key_id, datetime.fromtimestamp(int(now) / 1000, UTC)):
            return  # our clock is ahead of the store's (design decision 16)
        message = events_pb2.RouteKey.FromString(stands)
        self._keyring.destroy(wrapping_name(key_id, self._label))
        for name in (message.wrapped.key_id, message.previous_wrapping):
            if name and name.endswith(f"/{key_id.split('/')[2]}"):  # not one of all days
                self._keyring.destroy(name)
        await self._change(key_id, version, b"", max(seen, int(version)) + 1)

    async def rewrap(self, key_id: str) -> bool:
        """Puts the key under the wrapping key of this label, unless it is. False: it was."""
        _, stands, version, _ = await self._cell.call("get_key", [self._key(key_id)])
        message = events_pb2.RouteKey.FromString(stands)
        before = message.wrapped.key_id
        if not stands or before == wrapping_name(key_id, self._label):
            return False
        record = self._record(key_id, self._opened(message), before)
        await self._change(key_id, version, record, int(version) + 1)
        return True

    def _record(self, key_id: str, key: bytes, before: str = "") -> bytes:
        return events_pb2.RouteKey(
            key_id=key_id,
            wrapped=sealed(wrap_route_key(self._keyring, key_id, key, self._label)),
            previous_wrapping=before,
            rewrap_time=timestamp(self._clock.epoch_ms()) if before else None,
        ).SerializeToString()

    def _opened(self, message: events_pb2.RouteKey) -> bytes:
        box = unsealed(message.wrapped)
        assert box is not None
        return unwrap_route_key(self._keyring, message.key_id, box)

    async def _change(self, key_id: str, seen: bytes, record: bytes, version: int) -> None:
        """Where somebody was faster nothing happens: the keeper comes again."""
        entry = self._records.route_key(key_id, record, self._clock.epoch_ms(), version)
        args: list[Argument] = [seen, entry, record, version]
        reply = await self._cell.call("change_key", [self._key(key_id)], args)
        if reply[0] == b"OK":
            await self._cell.published(int(reply[1]))

    def _key(self, key_id: str) -> str:
        return self._cell.key("key", key_id)
