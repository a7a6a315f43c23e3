"""What 30 million numbers cost before they are used, and whether a lease grows dearer as a pool
fills: `python -m bench allocator`.

Registers 3,000 blocks as operators do, and looks at Valkey. Then two pools of each policy, one at
1 % and one at 99 %, are leased from in turns, so that both meet the same machine; whatever a turn
leases, it gives back. A full pool has what makes a lease dear: numbers that hold others' parties,
and hardly any that were never used.
"""

import asyncio
import shutil
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from deploy.local.brokers import Brokers
from deploy.local.kafka import quiet_admin
from services.allocator import messages
from services.allocator.catalogue import CellCatalogue
from services.allocator.domain import (
    BLOCK_SIZE,
    MAX_PAIRS,
    Block,
    Lease,
    Policy,
    Pool,
    PoolId,
    Wish,
)
from services.allocator.service import cell_of, parts_of, start
from services.allocator.settings import AllocatorSettings
from services.allocator.store import CellNumberStore
from services.runtime import topics
from services.runtime.cell import Cell
from services.runtime.clock import SystemClock
from services.runtime.errors import Unavailable

_PARTITIONS: Final = 16
_BLOCKS: Final = 3000
_AT_ONCE: Final = 64
_TURNS: Final = 60
_LEASES: Final = 20  # of a turn
_LIFE_MS: Final = 600_000
_LEFT: Final = 100  # numbers of a shared pool: 20,000 pairs
_LEVELS: Final = (1, 99)  # per cent
Tags = Iterator[tuple[bytes, bytes]]


def run(folder: Path) -> dict[str, Any]:
    """Registers, fills, leases; returns what was measured."""
    shutil.rmtree(folder, ignore_errors=True)
    with Brokers(folder / "brokers") as brokers:
        topics.ensure(quiet_admin(brokers.kafka.bootstrap), _PARTITIONS)
        settings = AllocatorSettings(
            listen="127.0.0.1:0",
            health_listen="127.0.0.1:0",
            kafka_bootstrap=brokers.kafka.bootstrap,
            redis_url=brokers.valkey.url,
            keyring_dir=folder / "ring",
        )
        return asyncio.run(_measured(settings))


async def _measured(settings: AllocatorSettings) -> dict[str, Any]:
    cell = cell_of(settings)
    server, _ = await start(settings)
    try:
        await cell.open()
        counts, store, _ = parts_of(settings, cell, SystemClock())
        catalogue = CellCatalogue(cell, counts)
        found = await _registered(cell, catalogue)
        pools = {p: [await _pool(catalogue, p, level) for level in _LEVELS] for p in Policy}
    finally:
        await server.drain()  # nobody relays any more, so a lease costs the store's time alone
    try:
        tags = _strangers()
        for policy, (few, many) in pools.items():
            for pool, level in zip((few, many), _LEVELS, strict=True):
                await _fill(cell, store, pool, level, tags)
            found[f"lease_{policy.value}"] = await _in_turns(store, (few, many), tags)
    finally:
        await cell.close()
    return found


async def _registered(cell: Cell, catalogue: CellCatalogue) -> dict[str, Any]:
    await _until(lambda: catalogue.list_pools("bench", "", 1))
    pool = await _pool(catalogue, Policy.EXCLUSIVE, 0)
    before, begun = (await cell.redis.info("memory"))["used_memory"], time.perf_counter()
    limit = asyncio.Semaphore(_AT_ONCE)

    async def one(place: int) -> None:
        async with limit:
            await catalogue.register_block(Block(f"700{place:08d}", pool.id, 1))

    await asyncio.gather(*map(one, range(_BLOCKS)))
    seconds = time.perf_counter() - begun
    used = (await cell.redis.info("memory"))["used_memory"] - before
    return {
        "numbers_registered": _BLOCKS * BLOCK_SIZE,
        "valkey_megabytes": round(used / 1e6, 2),
        "blocks_registered_per_second": round(_BLOCKS / seconds),
    }


async def _pool(catalogue: CellCatalogue, policy: Policy, level: int) -> Pool:
    pool = PoolId("bench", f"{policy.value}-{level}")
    return await catalogue.create_pool(Pool(pool, policy, 1000, 1, 86_400_000))


async def _fill(cell: Cell, store: CellNumberStore, pool: Pool, level: int, tags: Tags) -> None:
    """One block; of a shared pool all but a few of its numbers count as used before."""
    shared = pool.policy is Policy.SHARED
    digits = f"7009{list(Policy).index(pool.policy):02d}{level:05d}"
    left, block = _LEFT if shared else BLOCK_SIZE, messages.block_base(Block(digits, pool.id, 1))
    args = (digits, 1, pool.id.path, BLOCK_SIZE - left, 0, "", 1, block)
    await cell.call("restore_block", args=args)
    places = left * (MAX_PAIRS if shared else 1) * level // 100
    while places:
        size = min(200, places)
        given = await _leased(store, pool, [next(tags) for _ in range(size)])
        places -= len(given)


async def _in_turns(store: CellNumberStore, pools: tuple[Pool, Pool], tags: Tags) -> dict[str, Any]:
    took: tuple[list[float], list[float]] = ([], [])
    for _ in range(_TURNS):
        for pool, times in zip(pools, took, strict=True):
            given: list[Lease] = []
            for _ in range(_LEASES):
                pair, begun = next(tags), time.perf_counter()
                given += await _leased(store, pool, [pair])
                times.append((time.perf_counter() - begun) * 1e6)
            await store.return_leases(given)
    one, other = (statistics.median(times) for times in took)
    return {
        "microseconds_at_1_percent": round(one),
        "microseconds_at_99_percent": round(other),
        "ratio": round(other / one, 2),
    }


async def _leased(
    store: CellNumberStore, pool: Pool, pairs: Sequence[tuple[bytes, bytes]]
) -> list[Lease]:
    leased = await store.lease(pool.id, [Wish(pair) for pair in pairs], _LIFE_MS)
    assert len(leased.given) == len(pairs), "the pool is not full"
    return leased.given


def _strangers() -> Tags:
    """Tags of two parties who are nowhere yet."""
    place = 0
    while True:
        yield place.to_bytes(16, "big"), (place + 1).to_bytes(16, "big")
        place += 2


async def _until(ask: Callable[[], Awaitable[Any]], seconds: float = 60) -> None:
    """Until the store is whole."""
    async with asyncio.timeout(seconds):
        while True:
            try:
                await ask()
            except Unavailable:
                await asyncio.sleep(0.1)
            else:
                return
