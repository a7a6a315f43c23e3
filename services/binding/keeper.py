"""Keeps the route keys of a cell: makes them a week ahead, ends them a day after their day, rotates
what wraps them. A job of the cell's owner.

Refuses to end a wrapping key that any cell's newest record is under. Invariant: whatever it is cut
off from, doing all of it once more is harmless and goes on where it stopped; it reads from the
topic what there is, and changes only what the store has.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from axbridge.binding.v1 import events_pb2
from confluent_kafka import KafkaException
from google.protobuf.message import DecodeError

from services.binding.routekeys import RouteKeys
from services.runtime.cell import Cell
from services.runtime.clock import Clock
from services.runtime.envelope import header_int
from services.runtime.errors import AxbridgeError, DataLoss
from services.runtime.jobs import repeated
from services.runtime.keyring import KeyDestroyed, KeyRing
from services.runtime.rebuild import read_to_end
from services.runtime.record import Record
from services.runtime.telemetry import logger
from services.runtime.topics import BINDING_KEYS
from services.runtime.wrapping import route_key_id, route_key_over, route_key_tenant

_AHEAD_DAYS: Final = 7
_EVERY_SECONDS: Final = 300.0
_RETRY_SECONDS: Final = 5.0
# Longer than a router answers from a view that hears nothing (15 min), and than a rolling restart
# in which some processes still use the label before.
_ROTATED: Final = timedelta(hours=1)
_LOG: Final = logger(__name__)

# The newest record of each key on `binding.keys.v1`, of all cells; None where it has ended.
Read = Callable[[], Awaitable[Mapping[str, Record]]]


class Keeper:
    """See the module. `source` tells the cell's own records from those of others."""

    def __init__(
        self, keys: RouteKeys, keyring: KeyRing, clock: Clock, read: Read, source: bytes
    ) -> None:
        self._keys = keys
        self._keyring = keyring
        self._clock = clock
        self._read = read
        self._source = source
        self._ended: set[str] = set()

    async def run(self) -> None:
        """Keeps until cancelled. While the store or Kafka is away it waits."""
        await repeated(
            self.keep, bears=(AxbridgeError, KafkaException), told=_LOG.warning,
            event="route keys wait", every_seconds=_EVERY_SECONDS, retry_seconds=_RETRY_SECONDS,
        )  # fmt: skip

    async def keep(self) -> None:
        """All of it, once."""
        now, records = self._clock.now(), await self._read()
        ours = {
            key_id: record
            for key_id, record in records.items()
            if record.value is not None and ("ce_source", self._source) in record.headers
        }
        for key_id, record in ours.items():
            try:
                if route_key_over(key_id, now):
                    await self._keys.end(key_id, header_int(record.headers, "ce_axversion"))
                else:
                    await self._keys.rewrap(key_id)
            except (DataLoss, KeyDestroyed) as why:  # one that does not open keeps no other
                _LOG.error("a route key cannot be read", key=key_id, reason=why.reason)
        for tenant in sorted({route_key_tenant(key_id) for key_id in ours} - {""}):
            for days in range(_AHEAD_DAYS + 1):
                await self._keys.get(route_key_id(tenant, now + timedelta(days=days)))
        self._keys.forget_over()
        self._end_rotated(now, records)

    def _end_rotated(self, now: datetime, records: Mapping[str, Record]) -> None:
        """Ends wrapping keys that no record is under any more, once every router has heard."""
        used, left = set(), dict[str, datetime]()
        for record in records.values():
            if record.value is None:
                continue
            try:
                message = events_pb2.RouteKey.FromString(record.value)
            except DecodeError:
                return  # not to be judged: perhaps it is under the key that would be ended
            used.add(message.wrapped.key_id)
            if message.previous_wrapping:
                since = message.rewrap_time.ToDatetime(UTC)
                before = left.get(message.previous_wrapping, since)
                left[message.previous_wrapping] = max(before, since)
        for name, since in left.items():
            if name not in used | self._ended and now >= since + _ROTATED:
                self._keyring.destroy(name)
                self._ended.add(name)


def of_cell(keys: RouteKeys, keyring: KeyRing, clock: Clock, bootstrap: str, cell: Cell) -> Keeper:
    """The keeper of a cell on Kafka."""
    return Keeper(keys, keyring, clock, lambda: read_keys(bootstrap), cell.source.encode())


async def read_keys(bootstrap: str, topic: str = BINDING_KEYS.name) -> dict[str, Record]:
    """See Read. Raises KafkaException."""
    found: dict[str, Record] = {}

    async def take(records: Sequence[Record]) -> None:
        found.update({record.key.decode(errors="replace"): record for record in records})

    await read_to_end(bootstrap, topic, take)
    return found
