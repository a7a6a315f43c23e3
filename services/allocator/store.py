"""Numbers and leases in a cell: implements ports.NumberStore and ports.LeaseExpiry.

Refuses to remember anything that the cell must agree with: the cursors it keeps are guesses that
the functions correct. Invariant: a number is handed to a function only at its index of its block's
permutation, so whoever moves a cursor knows which number it passes.

If the store is flushed while this runs, calls are refused (STORE_HEALING) until some process has
restored pools, blocks, marks, imports and routes from Kafka (`rebuild.py`); then they go on, with
the cursors that the functions answer. Open leases are forgotten: their numbers cool, or turn up
bound.
"""

import secrets
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from services.allocator import messages
from services.allocator.cells import checked, waited
from services.allocator.domain import (
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
    State,
    Wish,
)
from services.allocator.pool import Permutation, Walk
from services.runtime.cell import Argument, Cell
from services.runtime.errors import Aborted
from services.runtime.keyring import KeyRing
from services.runtime.selection import ANY, Selection
from services.runtime.topics import ALLOCATOR_NUMBERS, ALLOCATOR_STATE, partition_of

KEY_LABEL: Final = b"serials/v1"
_ATTEMPTS: Final = 12  # windows double each time: the last one covers 4,096 x the numbers wanted
# Binding refuses a lease after its deadline by its own clock; clocks differ by 500 ms at most.
_GRACE_MS: Final = 1000
# What the functions answer where they give no number.
_REFUSED: Final = {
    b"EXHAUSTED": Refused.EXHAUSTED,
    b"AREA": Refused.AREA,
    b"UNAVAILABLE": Refused.UNAVAILABLE,
    b"UNKNOWN": Refused.UNKNOWN,
    b"FOREIGN": Refused.FOREIGN,
}


@dataclass(slots=True)
class _View:
    """A pool as last read. `gen` changes with its blocks."""

    pool: Pool
    gen: bytes
    walk: Walk


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

    async def get_number(self, number: str) -> Number:
        reply = checked(await self._cell.call("get_number", args=(number,)))
        return _number(number, reply[1:])

    async def list_numbers(
        self, pool: PoolId, after: str, limit: int, state: State | None
    ) -> tuple[Sequence[Number], str]:
        wanted = state.value if state else ""
        reply = await self._cell.call("list_numbers", args=(pool.path, after, wanted, limit))
        last, *parts = checked(reply, pool=pool.name)[1:]
        rows = (parts[at : at + 6] for at in range(0, len(parts), 6))
        path = pool.path.encode()
        found = [_number(number.decode(), (path, *rest)) for number, *rest in rows]
        return found, last.decode()

    async def lease(self, pool: PoolId, wishes: Sequence[Wish], duration_ms: int) -> Leased:
        view = self._views.get(pool) or await self._load(pool)
        leases: list[Lease | Refusal] = [Refusal(Refused.EXHAUSTED)] * len(wishes)
        left = list(range(len(wishes)))
        # Exclusive: one each, and as many again for calls that are under way at the same time.
        # Shared: numbers in use are filled first, fresh ones are seldom needed.
        shared = view.pool.policy is Policy.SHARED
        wanted = Counter(_first_area(wish.selection) for wish in wishes)
        attempt = 0  # in vain
        while attempt < _ATTEMPTS:
            sizes = {
                area: (4 if shared else count + 16) << attempt
                for area, count in wanted.items()
                if area is not None
            }
            reply = await self._call_lease(view, [wishes[at] for at in left], duration_ms, sizes)
            if reply is None:
                view, attempt = await self._load(pool), attempt + 1
                continue
            deadline, results = int(reply[1]), reply[3]
            again, wanted = [], Counter()
            for place, at in enumerate(left):
                number, epoch, detail = results[3 * place : 3 * place + 3]
                if number:
                    leases[at] = Lease(number.decode(), int(epoch), deadline, detail == b"STICKY")
                elif epoch == b"MORE":
                    again.append(at)
                    wanted[detail.decode()] += 1
                else:
                    leases[at] = Refusal(_REFUSED[epoch], detail.decode(), wishes[at].selection)
            attempt += len(again) == len(left)
            left = again
            if not left:
                return Leased(view.pool, tuple(leases))
        raise Aborted("CONFLICT", "others lease faster")  # what was leased runs out and cools

    async def _call_lease(
        self, view: _View, wishes: Sequence[Wish], duration_ms: int, sizes: Mapping[str, int]
    ) -> list[Any] | None:
        """One FCALL. None if the pool has other blocks than the view knows."""
        path = view.pool.id.path
        offered = view.walk.windows(sizes, self._permutation(view.pool.id), self._below)
        args: list[Argument] = [path, view.gen, duration_ms, self._event(path), len(offered)]
        for window in offered:
            partition = self._record(f"block/{window.block}")
            args += (window.block, window.start, len(window.numbers), partition, *window.numbers)
        args.append(len(wishes))
        for wish in wishes:
            args += (len(wish.tags), *wish.tags, len(wish.excluded), *wish.excluded)
            args += self._selection(wish.selection)
        reply = await self._cell.call("lease", args=args)
        if reply[0] == b"BLOCKS_CHANGED":
            return None
        if reply[0] != b"OK":  # created under a store that was lost before Kafka had it
            self._views.pop(view.pool.id, None)
        checked(reply, pool=view.pool.id.name)
        for window, cursor in zip(offered, reply[2], strict=True):
            view.walk.moved(window.block, int(cursor))
        return reply

    def _selection(self, selection: Selection) -> tuple[Argument, ...]:
        if selection == ANY:
            return ("",)
        seed: Argument = self._below(2**31 - 1) if selection.random else ""
        flags = (int(selection.sticky), seed, int(selection.strict))
        return ("S", selection.number, *flags, len(selection.areas), *selection.areas)

    async def import_numbers(self, pool: PoolId, imports: Sequence[Import]) -> Leased:
        view = self._views.get(pool) or await self._load(pool)
        args: list[Argument] = [pool.path, self._event(pool.path)]
        for each in imports:
            partition = self._record(f"import/{each.number}/{each.import_id}")
            tags = b"".join(each.tags)
            args += (each.number, each.import_id, tags, each.until_ms, partition)
        reply = checked(await self._cell.call("import", args=args), pool=pool.name)
        results: list[Lease | Refusal] = []
        for place, each in enumerate(imports):
            epoch, word, detail = reply[2 + 3 * place : 5 + 3 * place]
            if epoch:
                results.append(Lease(each.number, int(epoch), int(word)))
            else:
                named = Selection(number=each.number)
                results.append(Refusal(_REFUSED[word], detail.decode(), named))
        await waited(self._cell, reply[1])
        return Leased(view.pool, tuple(results))

    async def return_leases(self, leases: Sequence[Lease]) -> int:
        return int((await self._cell.call("return_leases", args=self._triples(leases)))[1])

    async def mark(self, number: str, mark: Mark, on: bool, reason: str, time_ms: int) -> Number:
        record = messages.mark_record(number, reason, time_ms) if on else b""
        where = (self._event(number), self._record(f"{mark.value}/{number}"))
        args = (number, mark.value, record, reason, *where)
        reply = checked(await self._cell.call("mark", args=args))
        await waited(self._cell, reply[1])
        return _number(number, reply[2:])

    async def due(self, limit: int) -> Sequence[Lease]:
        reply = await self._cell.call("due", args=(limit, self._grace_ms))
        found = (member.decode().split("/") for member in reply[1:])
        return [Lease(number, int(epoch)) for number, epoch in found]

    async def expire(self, leases: Sequence[Lease]) -> int:
        return int((await self._cell.call("expire_leases", args=self._triples(leases)))[1])

    async def _load(self, pool: PoolId) -> _View:
        reply = await self._cell.call("get_pool", args=(pool.path,))
        checked(reply, pool=pool.name)
        blocks = [entry.decode() for entry in reply[3]]
        walk = Walk(zip(blocks[::3], map(int, blocks[1::3]), blocks[2::3], strict=True))
        view = self._views[pool] = _View(messages.pool_stored(reply[1]), reply[2], walk)
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


def _first_area(selection: Selection) -> str | None:
    """The area of which fresh numbers are offered first; None where one is named."""
    if selection.number:
        return None
    return selection.areas[0] if selection.areas else ""


def _number(number: str, reply: Sequence[Any]) -> Number:
    path, state, pairs, cool_until, version, past = reply
    tenant, _, pool = path.decode().partition("/")
    return Number(
        number,
        PoolId(tenant, pool),
        State(state.decode()),
        int(pairs),
        int(cool_until),
        int(version),
        messages.history(past),
    )
