"""A store under the contract suites, in memory or on a real Valkey, and a vocabulary for them."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from services.allocator.catalogue import CellCatalogue
from services.allocator.domain import (
    Block,
    Lease,
    Policy,
    Pool,
    PoolId,
    Refusal,
    RouteChange,
    RouteState,
    State,
    Wish,
)
from services.allocator.fold import CellRouteFold
from services.allocator.ports import Catalogue, LeaseExpiry, NumberStore, Position, RouteFold
from services.allocator.store import CellNumberStore
from services.runtime.clock import ManualClock, SystemClock
from services.runtime.keyring import MemoryKeyRing
from services.runtime.selection import Selection
from services.runtime.topics import BINDING_ROUTES
from tests.unit.allocator.cells import PARTITIONS, ready_cell
from tests.unit.allocator.memory import MemoryNumberStore

POOL = PoolId("didi", "city")
BLOCK = "70010000001"
A, B, C, D = (bytes([n]) * 16 for n in range(4))
FIRST: Position = (BINDING_ROUTES.name, 0)
COOLING = 400  # ms: long enough to be seen, short enough to be waited for


@dataclass
class Subject:
    """The parts of the store, and a vocabulary for the tests."""

    catalogue: Catalogue
    store: NumberStore
    fold: RouteFold
    expiry: LeaseExpiry
    now_ms: Callable[[], int]
    wait: Callable[[int], Awaitable[None]]
    offset: int = 0

    async def pool(self, policy: Policy, *blocks: tuple[str, str], pair: int = 0) -> None:
        """A pool with blocks (digits, area)."""
        if policy is Policy.SHARED:
            pair = pair or COOLING
        await self.catalogue.create_pool(Pool(POOL, policy, COOLING, 1000, pair))
        for digits, area in blocks or ((BLOCK, ""),):
            await self.catalogue.register_block(Block(digits, POOL, 1000, area))

    async def ask(self, *tags: bytes, excluded: tuple[str, ...] = (), life: int = 9000,
                  **selection: Any) -> Lease | Refusal:  # fmt: skip
        wish = Wish(tags, excluded, Selection(**selection))
        return (await self.store.lease(POOL, [wish], life)).leases[0]

    async def lease(self, *tags: bytes, excluded: tuple[str, ...] = (), life: int = 9000,
                    **selection: Any) -> Lease:  # fmt: skip
        lease = await self.ask(*tags, excluded=excluded, life=life, **selection)
        assert isinstance(lease, Lease), lease
        return lease

    async def refused(self, *tags: bytes, **asked: Any) -> tuple[str, str]:
        """Reason and why."""
        refusal = await self.ask(*tags, **asked)
        assert isinstance(refusal, Refusal), refusal
        return refusal.reason.value, refusal.why

    async def route(self, state: RouteState, lease: Lease, binding: str, version: int,
                    *tags: bytes, rest: int = 0) -> None:  # fmt: skip
        """One record of the topic, as it would come."""
        till = self.now_ms() + rest if rest else 0
        change = RouteChange(state, lease.number, binding, version, lease.epoch, till, tags)
        moved = {FIRST: (self.offset, self.offset + 1)}
        assert await self.fold.follow([(FIRST, self.offset, change)], moved)
        self.offset += 1

    async def bind_and_release(self, lease: Lease, binding: str, *tags: bytes) -> None:
        await self.route(RouteState.ACTIVE, lease, binding, 1, *tags)
        await self.route(RouteState.RELEASED, lease, binding, 2, *tags, rest=COOLING)

    async def state(self, number: str) -> State:
        return (await self.store.get_number(number)).state


@asynccontextmanager
async def subject_of(kind: str, url_of: Callable[[str], str]) -> AsyncIterator[Subject]:
    """The subject: `memory`, or on the store whose address the fixture `kind` gives."""
    if kind == "memory":
        clock = ManualClock()
        memory = MemoryNumberStore(clock)

        async def advance(ms: int) -> None:
            clock.advance(timedelta(milliseconds=ms))

        yield Subject(memory, memory, memory, memory, clock.epoch_ms, advance)
        return

    async def wait(ms: int) -> None:
        await asyncio.sleep(ms / 1000 + 0.02)  # the store's time is the machine's

    async with ready_cell(url_of(kind)) as ready:
        below = random.Random(1).randrange
        catalogue = CellCatalogue(ready.cell, PARTITIONS)
        store = CellNumberStore(ready.cell, MemoryKeyRing(), PARTITIONS, below, grace_ms=0)
        fold = CellRouteFold(ready.cell)
        yield Subject(catalogue, store, fold, store, SystemClock().epoch_ms, wait)
