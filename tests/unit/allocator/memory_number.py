"""One number of the store in memory."""

from dataclasses import dataclass, field
from math import inf

from services.allocator.domain import Lease, Mark, Pool, RouteChange, RouteState, State


@dataclass
class MemoryNumber:
    pool: Pool
    number: str
    version: int = 0
    marks: set[Mark] = field(default_factory=set)
    till: int = 0
    leases: dict[int, tuple[int, tuple[bytes, ...]]] = field(default_factory=dict)
    routes: dict[str, RouteChange] = field(default_factory=dict)
    rests: dict[bytes, int] = field(default_factory=dict)  # of leases that ran out
    imports: dict[str, Lease] = field(default_factory=dict)
    history: list[tuple[State, int]] = field(default_factory=list)

    @property
    def pairs(self) -> int:
        return sum(route.state is RouteState.ACTIVE for route in self.routes.values())

    def held(self, tag: bytes) -> float:
        """Until when the tag is on the number or cools on it."""
        ends: list[float] = [self.rests.get(tag, 0)]
        ends += [inf for _, tags in self.leases.values() if tag in tags]
        for route in self.routes.values():
            if tag in route.tags:
                ends.append(self.parties_till(route))
        return max(ends)

    def parties_till(self, route: RouteChange) -> float:
        """When the parties of a binding are over with the number."""
        if route.state is RouteState.ACTIVE:
            return inf
        extra = max(0, self.pool.pair_cooling_ms - self.pool.rest_ms)
        return route.cool_until_ms + extra if route.cool_until_ms else 0


def says(change: RouteChange) -> tuple[object, ...]:
    """What a change says, beside its version."""
    return change.state, change.cool_until_ms, change.tags
