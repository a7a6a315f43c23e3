"""What allocator needs of its store. The docstrings are the contract.

Invariant: every method is one atomic step; what it changes and the event that tells of it are
written together or not at all. All of them raise Unavailable (STORE_UNAVAILABLE, STORE_HEALING)
while the store does not answer or is not whole, and writes also OUTBOX_FULL; only after
STORE_UNAVAILABLE may the step have been taken.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol

from services.allocator.domain import (
    Block,
    BlockState,
    Import,
    Lease,
    Leased,
    Mark,
    Number,
    Pool,
    PoolId,
    RouteChange,
    State,
    Statistics,
    Wish,
)

Position = tuple[str, int]


class Catalogue(Protocol):
    """Pools and blocks of one cell.

    Methods said to be *recorded* return only once Kafka has acknowledged the event, and raise
    Unavailable (LOG_UNAVAILABLE) if that takes too long: it is applied, a repeat waits again.
    """

    async def create_pool(self, pool: Pool) -> Pool:
        """The pool of that name: this one, or the one that was there. Recorded."""
        ...

    async def get_pool(self, pool: PoolId) -> Pool:
        """Raises NotFound (POOL_NOT_FOUND)."""
        ...

    async def list_pools(self, tenant: str, after: str, limit: int) -> Sequence[Pool]:
        """The tenant's pools whose names follow `after`, by name."""
        ...

    async def register_block(self, block: Block) -> Block:
        """The block of these digits: this one, or the one that was there. Recorded.

        Raises:
            NotFound: POOL_NOT_FOUND.
        """
        ...

    async def get_block(self, block: str) -> Block:
        """Raises NotFound (BLOCK_NOT_FOUND)."""
        ...

    async def list_blocks(self, pool: PoolId, after: str, limit: int) -> Sequence[Block]:
        """The pool's blocks behind `after`, by digits. Raises NotFound (POOL_NOT_FOUND)."""
        ...

    async def change_block(self, block: str, wanted: BlockState, reason: str) -> Block:
        """Suspends, resumes (ACTIVE) or retires (RETIRING; RETIRED at once if it is empty).
        Nothing happens where it is so already. Recorded.

        Raises:
            NotFound: BLOCK_NOT_FOUND.
            FailedPrecondition: BLOCK_STATE.
        """
        ...

    async def retire_drained(self) -> int:
        """Retires the retiring blocks on which nothing is leased or bound any more; how many."""
        ...

    async def statistics(self, pool: PoolId) -> Statistics:
        """Counts that are kept: the cost grows with the blocks in use, not with the numbers.
        Raises NotFound (POOL_NOT_FOUND)."""
        ...


class Observed(Catalogue, Protocol):
    """A catalogue as the owner sees it."""

    def observe(self) -> AsyncIterator[tuple[PoolId, Statistics]]:
        """Notes how much of each pool is in use, once a minute at most: from the notes of the last
        hour comes the outlook. Not recorded."""
        ...


class NumberStore(Protocol):
    """Numbers and leases of one cell. *Recorded* as in Catalogue."""

    async def get_number(self, number: str) -> Number:
        """Raises NotFound (NUMBER_NOT_FOUND): it lies in no registered block."""
        ...

    async def list_numbers(
        self, pool: PoolId, after: str, limit: int, state: State | None
    ) -> tuple[Sequence[Number], str]:
        """Numbers behind `after` that were touched (and are in `state`), by digits, and the last
        one looked at: empty if there are no more. Raises NotFound (POOL_NOT_FOUND)."""
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

    async def import_numbers(self, pool: PoolId, imports: Sequence[Import]) -> Leased:
        """Leases the numbers by name, for days. One that stands under the same id answers what
        stands. Recorded. Raises NotFound (POOL_NOT_FOUND)."""
        ...

    async def return_leases(self, leases: Sequence[Lease]) -> int:
        """Frees the leases that are live, at once; how many were. Not recorded, as `lease`."""
        ...

    async def mark(self, number: str, mark: Mark, on: bool, reason: str, time_ms: int) -> Number:
        """Sets a mark or takes it away; nothing happens where it is so already. Recorded.

        Raises:
            NotFound: NUMBER_NOT_FOUND.
        """
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
