"""Ends purge buckets whose month is over: the key in the ring, then what the cell still has of
them, then an event that says so. A job of the cell's owner, and `python -m services.binding purge`.

Nothing is announced before: that the month is over is the intent, and any process can see it. The
key goes first, since it is what counts; a crash after it leaves an entry of the ledger that lacks
the month, and the next round does all of the month again. Each step may be repeated; the event of a
month is written with the ledger's record and so exists once in a cell.

Refuses to end a bucket before both its clock and the store's say that its month is over. Invariant:
what the ledger says was purged, nothing can open.
"""

import argparse
import contextlib
from collections.abc import Awaitable, Callable, Collection
from datetime import UTC, datetime
from typing import Final, Literal

from axbridge.binding.v1 import events_pb2, retention_pb2
from confluent_kafka import KafkaException

from services.binding.keeper import read_keys
from services.binding.ledger import Ledger, Place
from services.binding.messages import millis, timestamp
from services.binding.ports import Lost
from services.binding.records import Records
from services.binding.store import CellBindings
from services.runtime.cell import Cell
from services.runtime.clock import Clock
from services.runtime.errors import AxbridgeError, DataLoss
from services.runtime.jobs import repeated
from services.runtime.keyring import KeyRing
from services.runtime.sealing import bucket_month, month_begin, month_of, purge_key_id
from services.runtime.telemetry import logger
from services.runtime.wrapping import route_key_tenant

_EVERY_SECONDS: Final = 3600.0
_RETRY_SECONDS: Final = 10.0
_ACK_SECONDS: Final = 30.0
_KINDS: Final[tuple[Literal["expiry", "forget"], ...]] = ("expiry", "forget")
_SETTING: Final = retention_pb2.LEGAL_HOLD_STATE_SETTING
_LOG: Final = logger(__name__)

# The tenants that the cell has, or had, something of.
Tenants = Callable[[], Awaitable[Collection[str]]]


class Purger:
    """See the module. `store_agrees`: False leaves the store's clock out, so that a test can let
    months pass."""

    def __init__(
        self,
        cell: Cell,
        bindings: CellBindings,
        records: Records,
        keyring: KeyRing,
        clock: Clock,
        tenants: Tenants,
        *,
        store_agrees: bool = True,
    ) -> None:
        self._cell = cell
        self._bindings = bindings
        self._records = records
        self._ledger = Ledger(cell, records, clock)
        self._keyring = keyring
        self._clock = clock
        self._tenants = tenants
        self._store_agrees = store_agrees

    async def run(self) -> None:
        """Purges until cancelled. While the store or Kafka is away it waits."""

        async def once() -> None:
            for each in await self.purge():
                _LOG.info("purged", bucket=each.bucket, bindings=each.dropped_bindings)

        await repeated(
            once, bears=(AxbridgeError, KafkaException, Lost), told=_LOG.warning,
            event="purge waits", every_seconds=_EVERY_SECONDS, retry_seconds=_RETRY_SECONDS,
        )  # fmt: skip

    async def purge(self, since: str = "") -> list[events_pb2.BucketPurged]:
        """Ends every bucket that is over and not yet ended; what was done, acknowledged.

        `since`: `yyyymm`, from which month on where the ledger has nothing of a tenant; else from
        the last month, since a tenant's first data outlives the month it came in.

        Raises:
            Unavailable, KafkaException: some were not ended: repeat.
            Lost: another process purges at the same time: repeat.
        """
        moment = self._clock.now()
        store_ms, _ = await self._bindings.due("expiry", 1)
        if self._store_agrees:
            moment = min(moment, datetime.fromtimestamp(store_ms / 1000, UTC))
        over = month_of(moment)  # this month is the first that is not over
        tenants = set(await self._tenants())
        async for place in self._ledger.places("purge"):
            tenants.add(place.tenant)
        done = []
        for tenant in sorted(tenants - await self._being_held()):
            place = Place("purge", tenant, self._cell.name)
            entered = await self._ledger.get(place)
            first = month_of_text(since) if since else over - 1
            until = entered.state.purge.purged_until if entered.version else first - 1
            version = entered.version
            for month in range(until + 1, over):
                done.append(await self._bucket(place, version, month, moment))
                version += 1
        return done

    async def _being_held(self) -> set[str]:
        """Tenants with a legal hold that is being set: what it is for must not end before."""
        held = set()
        async for place in self._ledger.places("case"):
            if (await self._ledger.get(place)).state.legal_hold.state == _SETTING:
                held.add(place.tenant)
        return held

    async def _bucket(
        self, place: Place, version: int, month: int, moment: datetime
    ) -> events_pb2.BucketPurged:
        tenant, bucket = place.tenant, purge_key_id(place.tenant, month_begin(month), 0)
        self._keyring.destroy(bucket)
        bindings = sum([await self._drop(kind, tenant, month) for kind in _KINDS])
        erasures = await self._drop_erasures(tenant, month)
        now = timestamp(self._clock.epoch_ms())
        purged = events_pb2.BucketPurged(
            tenant=tenant, bucket=bucket, purge_time=now, cell=self._cell.name,
            dropped_bindings=bindings, dropped_erasures=erasures,
        )  # fmt: skip
        record = events_pb2.PurgeRecord(
            tenant=tenant, purged_until=month, update_time=now, purged=purged
        )
        sequence = await self._ledger.put(place, version, events_pb2.StateRecord(purge=record))
        await self._bindings.published(sequence, _ACK_SECONDS)
        return purged

    async def _drop(self, kind: Literal["expiry", "forget"], tenant: str, month: int) -> int:
        """Drops what the cell still has of a bucket: what should have ended and been forgotten
        months ago, but could not be read."""
        # Of the month's bucket is what ended before this; nothing else can have so low a score.
        cutoff = int(month_begin(month + 1 - self._bindings.retention_months).timestamp() * 1000)
        dropped, seen = 0, set[str]()
        while True:
            ids = [
                each
                for each in await self._bindings.overdue(kind, cutoff)
                if each not in seen
            ]  # fmt: skip
            if not ids:
                return dropped
            for binding in ids:
                seen.add(binding)
                # It can be read now, if it is of this bucket: what would not open has no key.
                try:
                    stored = await self._bindings.get(binding)
                except DataLoss as why:  # whatever it is, its key is gone
                    _LOG.error("cannot be read", binding=binding, reason=why.reason)
                    continue
                if stored is None or stored.binding.tenant != tenant:
                    continue
                if bucket_month(self._bindings.bucket(stored.binding)) <= month:
                    with contextlib.suppress(Lost):  # a sweeper could read it at last, too
                        await self._bindings.purge(stored)
                        dropped += 1

    async def _drop_erasures(self, tenant: str, month: int) -> int:
        """Ends the ledger's entries of whoever is erased with this bucket."""
        end_ms, dropped = int(month_begin(month + 1).timestamp() * 1000), 0
        async for place in self._ledger.places("erasure"):
            if place.tenant != tenant:
                continue
            entered = await self._ledger.get(place)
            erasure = entered.state.erasure.erasure
            if erasure.HasField("erase_time") and millis(erasure.erase_time) <= end_ms:
                await self._ledger.put(place, entered.version, None)
                dropped += 1
        return dropped


def tenants_of(cell: Cell, bootstrap: str) -> Tenants:
    """Those that the cell has route keys for: the keeper goes on making them. What follows an `@`
    is the cell's name."""
    source = cell.source.encode()

    async def read() -> Collection[str]:
        records = (await read_keys(bootstrap)).items()
        ours = {route_key_tenant(k) for k, r in records if ("ce_source", source) in r.headers}
        return {each.partition("@")[0] for each in ours} - {""}

    return read


def month_of_text(text: str) -> int:
    """A month written `yyyymm`. Raises ValueError."""
    return month_of(datetime.strptime(text, "%Y%m").replace(tzinfo=UTC))


def arguments(given: list[str]) -> argparse.Namespace:
    """The command line behind `purge`; exits with 2 for another one."""
    parser = argparse.ArgumentParser(prog="python -m services.binding purge")
    parser.add_argument(
        "--since", default="", metavar="YYYYMM", help="first month, if never purged"
    )
    parser.add_argument(
        "--now", type=_moment, help="purge as at this earlier moment (ISO 8601 with a zone)"
    )
    return parser.parse_args(given)


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None or moment > datetime.now(UTC):
        raise ValueError("a moment with a zone, not ahead of now")  # what is early is never undone
    return moment
