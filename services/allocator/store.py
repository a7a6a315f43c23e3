"""Pools and numbers in a cell: implements ports.NumberStore and ports.LeaseExpiry.

Refuses to remember anything that the cell must agree with: the cursors it keeps are guesses that
the functions correct. Invariant: a number is handed to a function only at its index of its block's
permutation, so whoever moves a cursor knows which number it passes.

If the store is flushed while this runs, calls are refused (STORE_HEALING) until some process has
restored pools, blocks, locks and routes from Kafka (`rebuild.py`); then they go on, with the
cursors that the functions answer. Open leases are forgotten: their numbers cool, or turn up bound.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from services.allocator import translate
from services.allocator.domain import (
    Block,
    Lease,
    Leased,
    Number,
    Policy,
    Pool,
    PoolId,
    State,
    Statistics,
    Wish,
)
from services.allocator.pool import Permutation, windows
from services.runtime import cell as cells
from services.runtime.cell import Argument, Cell
from services.runtime.errors import Aborted, NotFound
from services.runtime.keyring import KeyRing
from services.runtime.topics import ALLOCATOR_NUMBERS, ALLOCATOR_STATE, partition_of

SERVICE: Final = "allocator"
_FOLDER: Final = Path(__file__).parent / "store"
_ORDER: Final = ("wire", "context", "number", "tags", "pools", "lease", "follow", "rebuild")
KEY_LABEL: Final = b"serials/v1"
_ATTEMPTS: Final = 12  # windows double each time: the last one covers 4,096 x the numbers wanted
# Binding refuses a lease after its deadline by its own clock; clocks differ by 500 ms at most.
_GRACE_MS: Final = 1000


def functions() -> str:
    """The text of allocator's function library."""
    return cells.library(SERVICE, [_FOLDER / f"{name}.lua" for name in _ORDER])


@dataclass(slots=True)
class _View:
    """A pool with its blocks, and how far they were walked when last heard of."""

    pool: Pool
    cursors: dict[str, int]


class CellNumberStore:
    """See ports.NumberStore and ports.LeaseExpiry. `partitions`: how many each topic has."""

    def __init__(
        self,
        cell: Cell,
        keys: KeyRing,
        partitions: Mapping[str, int],
        below: Callable[[int], int] = secrets.randbelow,
        grace_ms: int = _GRACE_MS,
    ) -> None:
        self._cell = cell
        self._grace_ms = grace_ms
        self._keys = keys
        self._numbers = partitions[ALLOCATOR_NUMBERS.name]
        self._state = partitions[ALLOCATOR_STATE.name]
        self._below = below
        self._views: dict[PoolId, _View] = {}

    async def create_pool(self, pool: Pool) -> Pool:
        path, record = pool.id.path, translate.pool_out(pool).SerializeToString()
        where = (self._event(path), self._record(f"pool/{path}"))
        args = (path, pool.policy.value, pool.cooling_ms, record, *where)
        _, sequence, stands = await self._cell.call("create_pool", args=args)
        await self._cell.published(int(sequence))
        return translate.pool_stored(stands)

    async def get_pool(self, pool: PoolId) -> Pool:
        return (await self._load(pool)).pool

    async def register_block(self, block: Block) -> Block:
        digits, record = block.block, translate.block_out(block).SerializeToString()
        where = (self._event(digits), self._record(f"block/{digits}"))
        args = (digits, block.pool.path, record, block.pool.tenant, *where)
        reply = await self._cell.call("register_block", args=args)
        _check(reply, pool=block.pool.name)
        await self._cell.published(int(reply[1]))
        return translate.block_stored(reply[2])

    async def get_number(self, number: str) -> Number:
        reply = await self._cell.call("get_number", args=(number,))
        _check(reply)
        return _number(number, reply[1:])

    async def lease(self, pool: PoolId, wishes: Sequence[Wish], duration_ms: int) -> Leased:
        view = self._views.get(pool) or await self._load(pool)
        leases: list[Lease | None] = [None] * len(wishes)
        left = list(range(len(wishes)))
        attempt = 0  # in vain
        while attempt < _ATTEMPTS:
            reply = await self._call_lease(view, [wishes[at] for at in left], duration_ms, attempt)
            if reply is None:
                view, attempt = await self._load(pool), attempt + 1
                continue
            deadline, results = int(reply[1]), reply[3]
            again = []
            for place, at in enumerate(left):
                number, epoch = results[2 * place], results[2 * place + 1]
                if number:
                    leases[at] = Lease(number.decode(), int(epoch), deadline)
                elif epoch == b"MORE":
                    again.append(at)
            attempt += len(again) == len(left)
            left = again
            if not left:
                return Leased(view.pool, tuple(leases))
        raise Aborted("CONFLICT", "others lease faster")  # what was leased runs out and cools

    async def _call_lease(
        self, view: _View, wishes: Sequence[Wish], duration_ms: int, attempt: int
    ) -> list[Any] | None:
        """One FCALL. None if the pool has other blocks than the view knows."""
        path = view.pool.id.path
        # Exclusive: one each, and as many again for calls that are under way at the same time.
        # Shared: numbers in use are filled first, fresh ones are seldom needed.
        shared = view.pool.policy is Policy.SHARED
        wanted = (4 if shared else len(wishes) + 16) << attempt
        offered = windows(view.cursors, wanted, self._permutation(view.pool.id), self._below)
        args: list[Argument] = [path, len(view.cursors), duration_ms, self._event(path)]
        args.append(len(offered))
        for window in offered:
            partition = self._record(f"block/{window.block}")
            args += (window.block, window.start, len(window.numbers), partition, *window.numbers)
        args.append(len(wishes))
        for wish in wishes:
            args += (len(wish.tags), *wish.tags, len(wish.excluded), *wish.excluded)
        reply = await self._cell.call("lease", args=args)
        if reply[0] == b"BLOCKS_CHANGED":
            return None
        if reply[0] != b"OK":  # created under a store that was lost before Kafka had it
            self._views.pop(view.pool.id, None)
        _check(reply, pool=view.pool.id.name)
        for window, cursor in zip(offered, reply[2], strict=True):
            view.cursors[window.block] = int(cursor)
        return reply

    async def return_leases(self, leases: Sequence[Lease]) -> int:
        return int((await self._cell.call("return_leases", args=self._triples(leases)))[1])

    async def lock(self, number: str, reason: str, time_ms: int) -> Number:
        record = translate.lock_record(number, reason, time_ms)
        return await self._locking("lock", number, (number, reason, record))

    async def unlock(self, number: str, reason: str) -> Number:
        return await self._locking("unlock", number, (number, reason))

    async def _locking(self, function: str, number: str, args: tuple[Argument, ...]) -> Number:
        where = (self._event(number), self._record(f"lock/{number}"))
        reply = await self._cell.call(function, args=(*args, *where))
        _check(reply)
        await self._cell.published(int(reply[1]))
        return _number(number, reply[2:])

    async def statistics(self, pool: PoolId) -> Statistics:
        reply = await self._cell.call("statistics", args=(pool.path,))
        _check(reply, pool=pool.name)
        total, leased, bound, cooling, locked, pairs = (int(count) for count in reply[1:])
        free = total - leased - bound - cooling - locked
        return Statistics(total, free, leased, bound, cooling, locked, pairs)

    async def due(self, limit: int) -> Sequence[Lease]:
        reply = await self._cell.call("due", args=(limit, self._grace_ms))
        found = (member.decode().split("/") for member in reply[1:])
        return [Lease(number, int(epoch)) for number, epoch in found]

    async def expire(self, leases: Sequence[Lease]) -> int:
        return int((await self._cell.call("expire_leases", args=self._triples(leases)))[1])

    async def _load(self, pool: PoolId) -> _View:
        reply = await self._cell.call("get_pool", args=(pool.path,))
        _check(reply, pool=pool.name)
        blocks = [entry.decode() for entry in reply[2]]
        cursors = dict(zip(blocks[::2], map(int, blocks[1::2]), strict=True))
        view = self._views[pool] = _View(translate.pool_stored(reply[1]), cursors)
        return view

    def _permutation(self, pool: PoolId) -> Callable[[str], Permutation]:
        """The permutations of the tenant's blocks."""
        key = self._keys.derive(f"serials/{pool.tenant}", KEY_LABEL)
        return lambda block: Permutation(key, block)

    def _triples(self, leases: Sequence[Lease]) -> list[Argument]:
        args: list[Argument] = []
        for lease in leases:
            args += (lease.number, lease.epoch, self._event(lease.number))
        return args

    def _event(self, subject: str) -> int:
        return partition_of(subject, self._numbers)

    def _record(self, key: str) -> int:
        return partition_of(key, self._state)


def _number(number: str, reply: Sequence[Any]) -> Number:
    path, state, pairs, cool_until, version = reply
    tenant, _, pool = path.decode().partition("/")
    state = State(state.decode())
    return Number(number, PoolId(tenant, pool), state, int(pairs), int(cool_until), int(version))


def _check(reply: Sequence[Any], pool: str = "") -> None:
    if reply[0] == b"POOL_NOT_FOUND":
        raise NotFound("POOL_NOT_FOUND", "there is no such pool", pool=pool)
    if reply[0] == b"NUMBER_NOT_FOUND":
        raise NotFound("NUMBER_NOT_FOUND", "no registered block holds the number")
