"""What allocator needs of its store. The docstrings are the contract.

Invariant: every method is one atomic step; what it changes and the event that tells of it are
written together or not at all. All of them raise Unavailable (STORE_UNAVAILABLE, STORE_HEALING)
while the store does not answer or is not whole, and writes also OUTBOX_FULL; only after
STORE_UNAVAILABLE may the step have been taken.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from services.allocator.domain import (
    Block,
    Lease,
    Leased,
    Number,
    Pool,
    PoolId,
    RouteChange,
    Statistics,
    Wish,
)

Position = tuple[str, int]


class NumberStore(Protocol):
    """Pools, blocks and numbers of one cell.

    Methods said to be *recorded* return only once Kafka has acknowledged the event, and raise
    Unavailable (LOG_UNAVAILABLE) if that takes too long: it is applied, a repeat waits again.
    """

    async def create_pool(self, pool: Pool) -> Pool:
        """The pool of that name: this one, or the one that was there. Recorded."""
        ...

    async def get_pool(self, pool: PoolId) -> Pool:
        """Raises NotFound (POOL_NOT_FOUND)."""
        ...

    async def register_block(self, block: Block) -> Block:
        """The block of these digits: this one, or the one that was there. Recorded.

        Raises:
            NotFound: POOL_NOT_FOUND.
        """
        ...

    async def get_number(self, number: str) -> Number:
        """Raises NotFound (NUMBER_NOT_FOUND): it lies in no registered block."""
        ...

    async def lease(self, pool: PoolId, wishes: Sequence[Wish], duration_ms: int) -> Leased:
        """Leases a number per wish where one can take it. Deadlines are on the store's clock.

        Not recorded: binding is the authority, so a lease that the store forgets is harmless; the
        binding made under it is refused or stands by itself, and is folded either way. Epochs grow
        with every lease, also over a loss of the store.

        Raises:
            NotFound: POOL_NOT_FOUND.
        """
        ...

    async def return_leases(self, leases: Sequence[Lease]) -> int:
        """Frees the leases that are live, at once; how many were. Not recorded, as `lease`."""
        ...

    async def lock(self, number: str, reason: str, time_ms: int) -> Number:
        """Takes a number out of use; one that is locked stays so. Recorded.

        Raises:
            NotFound: NUMBER_NOT_FOUND.
        """
        ...

    async def unlock(self, number: str, reason: str) -> Number:
        """Ends a lock, if there is one. Recorded. Raises NotFound (NUMBER_NOT_FOUND)."""
        ...

    async def statistics(self, pool: PoolId) -> Statistics:
        """Counts that are kept, never made by a scan. Raises NotFound (POOL_NOT_FOUND)."""
        ...


class Contradicted(Exception):
    """Changes say something else about a version than what is known. `places` in what was given:
    all others were applied, but no position moved; park these and follow again without them."""

    def __init__(self, places: Sequence[int]) -> None:
        super().__init__(places)
        self.places = places


class RouteFold(Protocol):
    """Which numbers are bound or cool, as `binding.routes.v1` says."""

    async def positions(self) -> Mapping[Position, int]:
        """The next offset of each (topic, partition) that the store covers."""
        ...

    async def forget_positions(self) -> None:
        """Begins again. What is folded stays: folding it again changes nothing."""
        ...

    async def follow(
        self,
        items: Sequence[tuple[Position, int, RouteChange]],
        moved: Mapping[Position, tuple[int, int]],
    ) -> bool:
        """Applies changes (position, offset, change) and moves positions from -> to, in one step.

        A change at an offset that is covered, or of a version that is known, changes nothing.
        False, and nothing done, if the store stands before a `from`: it was rebuilt meanwhile, and
        the reader must begin again at its positions. Raises Contradicted.
        """
        ...


class LeaseExpiry(Protocol):
    """Leases that ran out."""

    async def due(self, limit: int) -> Sequence[Lease]:
        """Leases past their deadline by more than clocks may differ, oldest first."""
        ...

    async def expire(self, leases: Sequence[Lease]) -> int:
        """Sends those that are still open to cooling, never to free; how many. Not recorded."""
        ...
