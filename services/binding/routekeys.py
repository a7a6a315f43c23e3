"""Route keys: one per tenant and day of expiry, on Kafka before anything is sealed by it.

Refuses to invent a key where the cell has one. Invariant: a key that `get` returned is acknowledged
by Kafka, so no route copy exists that routers cannot come to open.
"""

import asyncio
from typing import Final

from axbridge.binding.v1 import events_pb2

from services.binding.messages import unsealed
from services.binding.records import Records
from services.binding.vault import RouteSeal
from services.runtime.cell import Cell, unavailable
from services.runtime.clock import Clock
from services.runtime.keyring import KeyRing
from services.runtime.sealing import new_route_key, unwrap_route_key, wrap_route_key

_CACHED: Final = 10_000  # keys: a month of 300 tenants


class RouteKeys:
    """The route keys of a cell, in memory once asked for."""

    def __init__(self, cell: Cell, records: Records, keyring: KeyRing, clock: Clock) -> None:
        self._cell = cell
        self._records = records
        self._keyring = keyring
        self._clock = clock
        self._known: dict[str, RouteSeal] = {}
        self._making: dict[str, asyncio.Task[RouteSeal]] = {}

    async def get(self, key_id: str, epoch: bytes | None = None) -> RouteSeal:
        """The key of that id. Raises Unavailable, also LOG_UNAVAILABLE.

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

    async def _make(self, key_id: str, epoch: bytes | None) -> RouteSeal:
        wrapped = wrap_route_key(self._keyring, key_id, new_route_key())
        record, entry = self._records.route_key(key_id, wrapped, self._clock.epoch_ms())
        key = self._cell.key("key", key_id)
        if epoch is None:
            reply = await self._cell.call("put_key", [key], [record, entry])
        else:
            reply = await self._cell.call_as(epoch, "put_key", [key], [record, entry])
            if reply[0] != b"OK":
                raise unavailable("STORE_HEALING")
        _, stands, sequence = reply
        if int(sequence) and epoch is None:
            await self._cell.published(int(sequence))
        box = unsealed(events_pb2.RouteKey.FromString(stands).wrapped)
        assert box is not None
        made = RouteSeal(key_id, unwrap_route_key(self._keyring, key_id, box))
        if epoch is None:  # else Kafka does not have it yet, and a heal that breaks off loses it
            if len(self._known) >= _CACHED:
                self._known.clear()
            self._known[key_id] = made
        return made
