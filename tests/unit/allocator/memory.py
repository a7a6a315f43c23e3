"""A NumberStore, RouteFold and LeaseExpiry in memory: the rules in their plainest form.

It walks a block in plain order and looks through everything, so it shows what may be leased, not
how it is found. Time is a ManualClock's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf

from services.allocator.domain import (
    BLOCK_SIZE,
    MAX_PAIRS,
    Block,
    Lease,
    Leased,
    Number,
    Policy,
    Pool,
    PoolId,
    RouteChange,
    RouteState,
    State,
    Statistics,
    Wish,
)
from services.allocator.ports import Contradicted, Position
from services.runtime.clock import ManualClock
from services.runtime.errors import NotFound


@dataclass
class _Number:
    pool: Pool
    version: int = 0
    locked: bool = False
    till: int = 0
    leases: dict[int, tuple[int, tuple[bytes, ...]]] = field(default_factory=dict)
    routes: dict[str, RouteChange] = field(default_factory=dict)
    rests: dict[bytes, int] = field(default_factory=dict)  # of leases that ran out

    @property
    def pairs(self) -> int:
        return sum(route.state is RouteState.ACTIVE for route in self.routes.values())

    def held(self, tag: bytes) -> float:
        """Until when the tag is on the number or cools on it."""
        ends: list[float] = [self.rests.get(tag, 0)]
        ends += [inf for _, tags in self.leases.values() if tag in tags]
        for route in self.routes.values():
            if tag in route.tags:
                ends.append(inf if route.state is RouteState.ACTIVE else route.cool_until_ms)
        return max(ends)


class MemoryNumberStore:
    """See ports.NumberStore, ports.RouteFold and ports.LeaseExpiry."""

    def __init__(self, clock: ManualClock, grace_ms: int = 0) -> None:
        self.block_size = BLOCK_SIZE
        self._clock = clock
        self._grace_ms = grace_ms
        self._pools: dict[PoolId, Pool] = {}
        self._blocks: dict[str, Block] = {}
        self._cursors: dict[str, int] = {}
        self._numbers: dict[str, _Number] = {}
        self._positions: dict[Position, int] = {}
        self._counter = 0

    async def create_pool(self, pool: Pool) -> Pool:
        return self._pools.setdefault(pool.id, pool)

    async def get_pool(self, pool: PoolId) -> Pool:
        if pool not in self._pools:
            raise NotFound("POOL_NOT_FOUND", pool=pool.name)
        return self._pools[pool]

    async def register_block(self, block: Block) -> Block:
        await self.get_pool(block.pool)
        self._cursors.setdefault(block.block, 0)
        return self._blocks.setdefault(block.block, block)

    async def get_number(self, number: str) -> Number:
        pool, found = self._pool_of(number), self._numbers.get(number)
        if found is None:
            return Number(number, pool.id, State.FREE, 0, 0, 0)
        state = self._state(found)
        till = found.till if state is State.COOLING else 0
        return Number(number, pool.id, state, found.pairs, till, found.version)

    async def lease(self, pool: PoolId, wishes: Sequence[Wish], duration_ms: int) -> Leased:
        settings = await self.get_pool(pool)
        deadline = self._clock.epoch_ms() + duration_ms
        leases: list[Lease | None] = []
        for wish in wishes:
            number = self._choose(settings, wish)
            if number is None:
                leases.append(None)
                continue
            epoch = self._touch(number)
            self._numbers[number].leases[epoch] = (deadline, wish.tags)
            leases.append(Lease(number, epoch, deadline))
        return Leased(settings, tuple(leases))

    async def return_leases(self, leases: Sequence[Lease]) -> int:
        return sum(self._end(lease, 0) for lease in leases)

    async def lock(self, number: str, reason: str, time_ms: int) -> Number:
        self._pool_of(number)
        if number not in self._numbers or not self._numbers[number].locked:
            self._touch(number)
            self._numbers[number].locked = True
        return await self.get_number(number)

    async def unlock(self, number: str, reason: str) -> Number:
        self._pool_of(number)
        if number in self._numbers and self._numbers[number].locked:
            self._touch(number)
            self._numbers[number].locked = False
        return await self.get_number(number)

    async def statistics(self, pool: PoolId) -> Statistics:
        await self.get_pool(pool)
        total = BLOCK_SIZE * sum(block.pool == pool for block in self._blocks.values())
        numbers = [n for n in self._numbers.values() if n.pool.id == pool]
        states = [self._state(n) for n in numbers]
        leased, bound, cooling, locked = (
            states.count(s) for s in (State.LEASED, State.BOUND, State.COOLING, State.LOCKED)
        )
        free = total - leased - bound - cooling - locked
        pairs = sum(n.pairs for n in numbers)
        return Statistics(total, free, leased, bound, cooling, locked, pairs)

    async def positions(self) -> Mapping[Position, int]:
        return self._positions

    async def forget_positions(self) -> None:
        self._positions = {}

    async def follow(
        self,
        items: Sequence[tuple[Position, int, RouteChange]],
        moved: Mapping[Position, tuple[int, int]],
    ) -> bool:
        if any(self._positions.get(p, 0) < start for p, (start, _) in moved.items()):
            return False
        wrong = [
            place
            for place, (position, offset, change) in enumerate(items)
            if offset >= self._positions.get(position, 0) and not self._fold(change)
        ]
        if wrong:
            raise Contradicted(wrong)
        for position, (_, end) in moved.items():
            self._positions[position] = max(end, self._positions.get(position, 0))
        return True

    async def due(self, limit: int) -> Sequence[Lease]:
        latest = self._clock.epoch_ms() - self._grace_ms
        found = [
            Lease(number, epoch, deadline)
            for number, n in self._numbers.items()
            for epoch, (deadline, _) in n.leases.items()
            if deadline <= latest
        ]
        return sorted(found, key=lambda lease: lease.deadline_ms)[:limit]

    async def expire(self, leases: Sequence[Lease]) -> int:
        return sum(self._end(lease, None) for lease in leases)

    def _fold(self, change: RouteChange) -> bool:
        """False if it contradicts what is known."""
        if change.number[:11] not in self._blocks:
            return True
        known = self._numbers.get(change.number)
        if change.state is RouteState.FORGOTTEN:
            if known is not None and change.binding in known.routes:
                del known.routes[change.binding]
                self._touch(change.number)
            return True
        seen = known.routes.get(change.binding) if known else None
        if seen and seen.version >= change.version:
            return seen.version > change.version or _says(seen) == _says(change)
        self._touch(change.number)
        number = self._numbers[change.number]
        number.leases.pop(change.lease_epoch, None)
        number.routes[change.binding] = change
        if change.state is RouteState.ACTIVE:
            number.till = 0
            for tag in change.tags:
                number.rests.pop(tag, None)
        elif number.pool.policy is Policy.EXCLUSIVE:
            number.till = max(number.till, change.cool_until_ms)
        return True

    def _end(self, lease: Lease, rest: int | None) -> bool:
        number, now = self._numbers.get(lease.number), self._clock.epoch_ms()
        if number is None or lease.epoch not in number.leases:
            return False
        deadline, tags = number.leases[lease.epoch]
        if rest is None and deadline > now:
            return False
        del number.leases[lease.epoch]
        self._touch(lease.number)
        if rest is None:
            till = now + number.pool.cooling_ms
            if number.pool.policy is Policy.EXCLUSIVE:
                number.till = max(number.till, till)
            number.rests.update(dict.fromkeys(tags, till))
        return True

    def _choose(self, pool: Pool, wish: Wish) -> str | None:
        """In use, fullest first; then fresh; then used before."""
        if pool.policy is Policy.SHARED:
            used = sorted(self._numbers, key=lambda n: -self._slots(n))
            found = next((n for n in used if self._slots(n) and self._fits(pool, n, wish)), None)
            if found:
                return found
        for block in (b for b in self._blocks.values() if b.pool == pool.id):
            while self._cursors[block.block] < self.block_size:
                number = f"{block.block}{self._cursors[block.block]:04d}"
                self._cursors[block.block] += 1
                if number in self._numbers:
                    continue
                if number not in wish.excluded:
                    return number
                self._touch(number)
                if pool.policy is Policy.EXCLUSIVE:
                    self._numbers[number].till = self._clock.epoch_ms() + pool.cooling_ms
        return next((n for n in self._numbers if self._fits(pool, n, wish)), None)

    def _fits(self, pool: Pool, digits: str, wish: Wish) -> bool:
        number, now = self._numbers[digits], self._clock.epoch_ms()
        if number.pool.id != pool.id or number.locked or digits in wish.excluded:
            return False
        if pool.policy is Policy.EXCLUSIVE:
            return not self._slots(digits) and number.till <= now
        return self._slots(digits) < MAX_PAIRS and all(number.held(t) <= now for t in wish.tags)

    def _slots(self, number: str) -> int:
        return self._numbers[number].pairs + len(self._numbers[number].leases)

    def _touch(self, number: str) -> int:
        self._counter += 1
        known = self._numbers.setdefault(number, _Number(self._pool_of(number)))
        known.version = self._counter
        return self._counter

    def _pool_of(self, number: str) -> Pool:
        block = self._blocks.get(number[:11])
        if block is None:
            raise NotFound("NUMBER_NOT_FOUND")
        return self._pools[block.pool]

    def _state(self, number: _Number) -> State:
        if number.locked:
            return State.LOCKED
        if number.pairs:
            return State.BOUND
        if number.leases:
            return State.LEASED
        return State.COOLING if number.till > self._clock.epoch_ms() else State.FREE


def _says(change: RouteChange) -> tuple[object, ...]:
    return change.state, change.cool_until_ms, change.tags
