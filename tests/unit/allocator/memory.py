"""A Catalogue, NumberStore, RouteFold and LeaseExpiry in memory: the rules in their plainest form.

It looks through everything, so it shows what may be leased, not how it is found.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import inf

from services.allocator.domain import (
    BLOCK_SIZE,
    MAX_PAIRS,
    SPREAD,
    Block,
    BlockState,
    Import,
    Lease,
    Leased,
    Mark,
    Number,
    Policy,
    Pool,
    PoolId,
    Refusal,
    Refused,
    RouteChange,
    RouteState,
    State,
    Statistics,
    Wish,
)
from services.allocator.pool import scopes
from services.allocator.ports import Contradicted, Position
from services.runtime.clock import ManualClock
from services.runtime.errors import FailedPrecondition, NotFound
from services.runtime.selection import Selection
from tests.unit.allocator.memory_number import MemoryNumber, says


class MemoryNumberStore:
    """See ports.NumberStore, ports.RouteFold and ports.LeaseExpiry."""

    def __init__(self, clock: ManualClock, grace_ms: int = 0) -> None:
        self.block_size = BLOCK_SIZE
        self._clock = clock
        self._grace_ms = grace_ms
        self._pools: dict[PoolId, Pool] = {}
        self._blocks: dict[str, Block] = {}
        self._cursors: dict[str, int] = {}
        self._numbers: dict[str, MemoryNumber] = {}
        self._positions: dict[Position, int] = {}
        self._counter = 0

    async def create_pool(self, pool: Pool) -> Pool:
        return self._pools.setdefault(pool.id, pool)

    async def get_pool(self, pool: PoolId) -> Pool:
        if pool not in self._pools:
            raise NotFound("POOL_NOT_FOUND", pool=pool.name)
        return self._pools[pool]

    async def list_pools(self, tenant: str, after: str, limit: int) -> Sequence[Pool]:
        mine = [p for p in self._pools.values() if p.id.tenant == tenant and p.id.pool > after]
        return sorted(mine, key=lambda pool: pool.id.pool)[:limit]

    async def register_block(self, block: Block) -> Block:
        await self.get_pool(block.pool)
        self._cursors.setdefault(block.block, 0)
        return self._blocks.setdefault(block.block, block)

    async def get_block(self, block: str) -> Block:
        if block not in self._blocks:
            raise NotFound("BLOCK_NOT_FOUND", block=block)
        return self._blocks[block]

    async def list_blocks(self, pool: PoolId, after: str, limit: int) -> Sequence[Block]:
        await self.get_pool(pool)
        mine = [b for b in self._blocks.values() if b.pool == pool and b.block > after]
        return sorted(mine, key=lambda block: block.block)[:limit]

    async def change_block(self, block: str, wanted: BlockState, reason: str) -> Block:
        stands = await self.get_block(block)
        done = {BlockState.RETIRING, BlockState.RETIRED} if wanted is BlockState.RETIRING else set()
        if stands.state is wanted or stands.state in done:
            return stands
        if stands.state.value > 2 or (stands.state, wanted) == (BlockState.ACTIVE,) * 2:
            raise FailedPrecondition("BLOCK_STATE", block=block, state=stands.state.name)
        self._blocks[block] = replace(stands, state=wanted)
        await self.retire_drained()
        return self._blocks[block]

    async def retire_drained(self) -> int:
        retired = 0
        for block in list(self._blocks.values()):
            mine = [n for n in self._numbers if n.startswith(block.block)]
            if block.state is BlockState.RETIRING and not any(map(self._slots, mine)):
                self._blocks[block.block] = replace(block, state=BlockState.RETIRED)
                retired += 1
        return retired

    async def get_number(self, number: str) -> Number:
        pool, found = self._pool_of(number), self._numbers.get(number, None)
        if found is None:
            found = MemoryNumber(pool, number)
        state = self._state(found)
        till = found.till if self._idle(found) and found.till > self._clock.epoch_ms() else 0
        history = tuple(found.history[-9:])
        return Number(number, pool.id, state, found.pairs, till, found.version, history)

    async def list_numbers(
        self, pool: PoolId, after: str, limit: int, state: State | None
    ) -> tuple[Sequence[Number], str]:
        await self.get_pool(pool)
        mine = sorted(n for n, found in self._numbers.items() if found.pool.id == pool)
        found = [await self.get_number(n) for n in mine if n > after]
        page = [n for n in found if state in (None, n.state)][: limit + 1]
        return page[:limit], page[limit - 1].number if len(page) > limit else ""

    async def lease(self, pool: PoolId, wishes: Sequence[Wish], duration_ms: int) -> Leased:
        settings = await self.get_pool(pool)
        deadline = self._clock.epoch_ms() + duration_ms
        return Leased(settings, tuple(self._give(settings, w, deadline) for w in wishes))

    def _give(self, pool: Pool, wish: Wish, deadline: int) -> Lease | Refusal:
        selection = wish.selection
        last = self._sticky(pool, wish) if selection.sticky else None
        if selection.number:
            why = self.refused(pool, wish)
            if why is not None and last != selection.number:
                return why
            number: str | None = selection.number
        else:
            number = last or self._choose(pool, wish)
        if number is None:
            return Refusal(Refused.AREA if selection.strict else Refused.EXHAUSTED, "", selection)
        epoch = self._touch(number)
        self._numbers[number].leases[epoch] = (deadline, wish.tags)
        self._note(number)
        return Lease(number, epoch, deadline, number == last)

    async def import_numbers(self, pool: PoolId, imports: Sequence[Import]) -> Leased:
        settings = await self.get_pool(pool)
        results: list[Lease | Refusal] = []
        for each in imports:
            known = self._numbers.get(each.number)
            if known and each.import_id in known.imports:
                results.append(known.imports[each.import_id])
                continue
            wish = Wish(each.tags, (), Selection(number=each.number))
            given = self._give(settings, wish, each.until_ms)
            if isinstance(given, Lease):
                self._numbers[each.number].imports[each.import_id] = given
            results.append(given)
        return Leased(settings, tuple(results))

    async def return_leases(self, leases: Sequence[Lease]) -> int:
        return sum(self._end(lease, 0) for lease in leases)

    async def mark(self, number: str, mark: Mark, on: bool, reason: str, time_ms: int) -> Number:
        self._pool_of(number)
        if (number in self._numbers and mark in self._numbers[number].marks) != on:
            self._touch(number)
            self._numbers[number].marks ^= {mark}
            self._note(number)
        return await self.get_number(number)

    async def statistics(self, pool: PoolId) -> Statistics:
        await self.get_pool(pool)
        total = BLOCK_SIZE * sum(block.pool == pool for block in self._blocks.values())
        numbers = [n for n in self._numbers.values() if n.pool.id == pool]
        states = [self._state(n) for n in numbers]
        untouched = {
            block.block: BLOCK_SIZE - sum(n.number.startswith(block.block) for n in numbers)
            for block in self._blocks.values()
            if block.pool == pool
        }
        for block, count in untouched.items():
            states += [self._state(MemoryNumber(self._pools[pool], f"{block}0000"))] * count
        counts = {state: states.count(state) for state in State}
        spread = [0] * len(SPREAD)
        for number in numbers:
            place = next((at for at, top in enumerate(SPREAD) if number.pairs <= top), len(SPREAD))
            if place and number.pool.policy is Policy.SHARED:
                spread[place - 1] += 1
        return Statistics(
            total, counts[State.FREE], counts[State.LEASED], counts[State.BOUND],
            counts[State.COOLING], counts[State.LOCKED], sum(n.pairs for n in numbers),
            counts[State.RESERVED], counts[State.SUSPENDED], counts[State.RETIRED], tuple(spread),
        )  # fmt: skip

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
                self._note(change.number)
            return True
        seen = known.routes.get(change.binding) if known else None
        if seen and seen.version >= change.version:
            return seen.version > change.version or says(seen) == says(change)
        self._touch(change.number)
        number = self._numbers[change.number]
        number.leases.pop(change.lease_epoch, None)
        number.imports = {i: x for i, x in number.imports.items() if x.epoch != change.lease_epoch}
        number.routes[change.binding] = change
        if change.state is RouteState.ACTIVE:
            number.till = 0
            for tag in change.tags:
                number.rests.pop(tag, None)
        elif number.pool.policy is Policy.EXCLUSIVE:
            number.till = max(number.till, change.cool_until_ms)
        self._note(change.number)
        return True

    def _end(self, lease: Lease, rest: int | None) -> bool:
        number, now = self._numbers.get(lease.number), self._clock.epoch_ms()
        if number is None or lease.epoch not in number.leases:
            return False
        deadline, tags = number.leases[lease.epoch]
        if rest is None and deadline > now:
            return False
        del number.leases[lease.epoch]
        number.imports = {i: x for i, x in number.imports.items() if x.epoch != lease.epoch}
        self._touch(lease.number)
        if rest is None:
            till = now + number.pool.rest_ms
            if number.pool.policy is Policy.EXCLUSIVE:
                number.till = max(number.till, till)
            number.rests.update(dict.fromkeys(tags, till))
        self._note(lease.number)
        return True

    def _choose(self, pool: Pool, wish: Wish) -> str | None:
        selection = wish.selection
        areas = [*selection.areas, *([] if selection.strict else [""])] or [""]
        return next((n for area in areas if (n := self._in_area(pool, wish, area))), None)

    def _in_area(self, pool: Pool, wish: Wish, area: str) -> str | None:
        """In use, fullest first; then fresh; then used before."""
        if pool.policy is Policy.SHARED:
            used = sorted(self._numbers, key=lambda n: -self._slots(n))
            fits = (n for n in used if self._slots(n) and self._fits(pool, n, wish, area))
            if found := next(fits, None):
                return found
        for block in self._blocks.values():
            active = block.pool == pool.id and block.state is BlockState.ACTIVE
            while (
                active
                and area in scopes(block.area)
                and self._cursors[block.block] < self.block_size
            ):
                number = f"{block.block}{self._cursors[block.block]:04d}"
                self._cursors[block.block] += 1
                if number in self._numbers:
                    continue
                if number not in wish.excluded:
                    return number
                self._touch(number)
                if pool.policy is Policy.EXCLUSIVE:
                    self._numbers[number].till = self._clock.epoch_ms() + pool.cooling_ms
        return next((n for n in self._numbers if self._fits(pool, n, wish, area)), None)

    def _fits(self, pool: Pool, digits: str, wish: Wish, area: str = "") -> bool:
        """Whether a touched number may be leased without being named."""
        number = self._numbers[digits]
        mine = number.pool.id == pool.id and area in scopes(self._blocks[digits[:11]].area)
        return mine and Mark.RESERVE not in number.marks and self._why(pool, digits, wish) == ""

    def refused(self, pool: Pool, wish: Wish) -> Refusal | None:
        """Why the number that the wish names cannot be leased."""
        digits = wish.selection.number
        block = self._blocks.get(digits[:11])
        if block is None or block.pool != pool.id:
            reason = Refused.FOREIGN if block else Refused.UNKNOWN
            return Refusal(reason, "", wish.selection)
        why = self._why(pool, digits, wish)
        return Refusal(Refused.UNAVAILABLE, why, wish.selection) if why else None

    def _why(self, pool: Pool, digits: str, wish: Wish) -> str:
        """What stands against leasing the number; empty: nothing."""
        number = self._numbers.get(digits) or MemoryNumber(pool, digits)
        now, state = self._clock.epoch_ms(), self._blocks[digits[:11]].state
        shared = pool.policy is Policy.SHARED
        if digits in wish.excluded:
            return "EXCLUDED"
        if state is not BlockState.ACTIVE:
            return "SUSPENDED" if state is BlockState.SUSPENDED else "RETIRED"
        if Mark.LOCK in number.marks:
            return "LOCKED"
        if shared and number.pairs + len(number.leases) >= MAX_PAIRS:
            return "FULL"
        if not shared and (number.pairs or number.leases):
            return "BOUND" if number.pairs else "LEASED"
        for tag in wish.tags if pool.pair_cooling_ms or shared else ():
            if number.held(tag) > now:
                return "PARTY_ON_NUMBER" if number.held(tag) == inf else "PAIR_COOLING"
        return "COOLING" if not shared and number.till > now else ""

    def _sticky(self, pool: Pool, wish: Wish) -> str | None:
        """A number that rests only because these very parties were on it."""
        for digits in self._numbers:
            if self.may_have_again(pool, digits, wish):
                return digits
        return None

    def may_have_again(self, pool: Pool, digits: str, wish: Wish) -> bool:
        number, shared = self._numbers[digits], pool.policy is Policy.SHARED
        named = wish.selection.number
        if number.pool.id != pool.id or named not in ("", digits) or not wish.tags:
            return False
        if Mark.RESERVE in number.marks and not named:
            return False
        if self._why(pool, digits, wish) not in ("PAIR_COOLING", "COOLING"):
            return False
        ended = [r for r in number.routes.values() if r.state is RouteState.RELEASED]
        own = [route for route in ended if sorted(route.tags) == sorted(wish.tags)]
        if not own or any(number.held(tag) == inf for tag in wish.tags):
            return False
        till = max(route.cool_until_ms for route in own)
        return shared or number.till <= max(till, self._clock.epoch_ms())

    def _slots(self, number: str) -> int:
        return self._numbers[number].pairs + len(self._numbers[number].leases)

    def _touch(self, number: str) -> int:
        self._counter += 1
        new = MemoryNumber(self._pool_of(number), number)
        known = self._numbers.setdefault(number, new)
        known.version = self._counter
        return self._counter

    def _note(self, digits: str) -> None:
        number = self._numbers[digits]
        state = self._state(number)
        if not number.history or number.history[-1][0] is not state:
            number.history.append((state, self._clock.epoch_ms()))

    def _pool_of(self, number: str) -> Pool:
        block = self._blocks.get(number[:11])
        if block is None:
            raise NotFound("NUMBER_NOT_FOUND")
        return self._pools[block.pool]

    def _idle(self, number: MemoryNumber) -> bool:
        return not (number.marks or number.pairs or number.leases)

    def _state(self, number: MemoryNumber) -> State:
        block = self._blocks[number.number[:11]].state
        if Mark.LOCK in number.marks:
            return State.LOCKED
        if number.pairs:
            return State.BOUND
        if number.leases:
            return State.LEASED
        if Mark.RESERVE in number.marks:
            return State.RESERVED
        if block is not BlockState.ACTIVE:
            return State.SUSPENDED if block is BlockState.SUSPENDED else State.RETIRED
        return State.COOLING if number.till > self._clock.epoch_ms() else State.FREE
