"""Bindings and numbers of tenants with several cells: ports.Bindings and ports.Numbers over many.

The blind tag of party A chooses the cell, and the number comes from that cell's own blocks. What is
asked for by an id is looked for in all cells. Refuses what no single cell can promise by itself:
between cells, a request id is compared just before the write, not with it, so two requests of one
id and different A that arrive at once may both be answered. Invariant: a binding stays in the cell
in which it was made.
"""

import asyncio
import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from services.binding.domain import Binding, Lease
from services.binding.ports import Answer, Bindings, Index, Numbers, Stored, Taken
from services.runtime.choice import chosen
from services.runtime.phone import PhoneNumber
from services.runtime.selection import ANY, Selection

MOST: Final = 64  # cells of a process: what a sequence is told by, beside its own cell's


class Placed(NamedTuple):
    """`Stored.sealed` of a cell, and which cell."""

    cell: str
    sealed: object


class SpreadBindings:
    """`cells_of`: a tenant's cells, all of them in `cells`."""

    def __init__(
        self, cells: Mapping[str, Bindings], cells_of: Callable[[str], Sequence[str]]
    ) -> None:
        self._cells = cells
        self._places = {name: place for place, name in enumerate(cells)}
        self._cells_of = cells_of

    async def answered(self, tenant: str, request_id: str) -> Answer | None:
        """See ports.Bindings."""
        asked = (self._cells[name].answered(tenant, request_id) for name in self._cells_of(tenant))
        return next((each for each in await asyncio.gather(*asked) if each is not None), None)

    async def create(
        self,
        binding: Binding,
        a: PhoneNumber,
        b: PhoneNumber | None,
        order_tag: bytes,
        lease: Lease,
    ) -> int:
        """See ports.Bindings."""
        name = chosen(self._cells_of(binding.tenant), binding.tag_a)
        await self._unanswered_elsewhere(name, binding)
        sequence = await self._cells[name].create(binding, a, b, order_tag, lease)
        return self._told(name, sequence)

    async def consented(self, tenant: str, pool: str, tags: tuple[bytes, bytes]) -> tuple[str, str]:
        """See ports.Bindings."""
        name = chosen(self._cells_of(tenant), tags[0])
        return await self._cells[name].consented(tenant, pool, tags)

    async def extension(self, binding: Binding, digits: int, start: int) -> str | None:
        """See ports.Bindings."""
        name = chosen(self._cells_of(binding.tenant), binding.tag_a)
        return await self._cells[name].extension(binding, digits, start)

    async def get(self, binding: str) -> Stored | None:
        """See ports.Bindings."""
        asked = (cell.get(binding) for cell in self._cells.values())
        found = await asyncio.gather(*asked, return_exceptions=True)
        for name, stored in zip(self._cells, found, strict=True):
            if isinstance(stored, Stored):
                sequence = self._told(name, stored.sequence)
                return replace(stored, sequence=sequence, sealed=Placed(name, stored.sealed))
        for failure in found:  # one that is away may have it
            if isinstance(failure, BaseException):
                raise failure
        return None

    async def change(self, old: Stored, new: Binding, b: PhoneNumber | None = None) -> int:
        """See ports.Bindings."""
        name, stored = _taken_out(old)
        await self._unanswered_elsewhere(name, new)
        return self._told(name, await self._cells[name].change(stored, new, b))

    async def release(self, old: Stored, new: Binding) -> int:
        """See ports.Bindings."""
        name, stored = _taken_out(old)
        return self._told(name, await self._cells[name].release(stored, new))

    async def page(self, tenant: str, index: Index, after: str, limit: int) -> Sequence[str]:
        """See ports.Bindings."""
        pages = await asyncio.gather(*(
            self._cells[name].page(tenant, index, after, limit) for name in self._cells_of(tenant)
        ))  # fmt: skip
        return list(heapq.merge(*pages))[:limit]

    async def published(self, sequence: int, seconds: float) -> None:
        """See ports.Bindings."""
        if sequence:
            own, place = divmod(sequence, MOST)
            await list(self._cells.values())[place].published(own, seconds)

    def _told(self, name: str, sequence: int) -> int:
        """The sequence of a cell as one of all cells'; 0, which needs no waiting, stays 0."""
        return sequence * MOST + self._places[name] if sequence else 0

    async def _unanswered_elsewhere(self, name: str, binding: Binding) -> None:
        """Raises Taken where the newest request, if it made this version, is another cell's."""
        request, others = binding.requests[-1], set(self._cells_of(binding.tenant)) - {name}
        if request.version != binding.version or not others:
            return
        asked = (self._cells[each].answered(binding.tenant, request.request_id) for each in others)
        for answer in await asyncio.gather(*asked):
            if answer is not None:
                raise Taken(answer)


class SpreadNumbers:
    """Numbers of the cell that party A's tag chooses, from that cell's allocator."""

    def __init__(
        self, cells: Mapping[str, Numbers], cells_of: Callable[[str], Sequence[str]]
    ) -> None:
        self._cells = cells
        self._cells_of = cells_of
        self._leased: dict[tuple[str, int], str] = {}

    async def lease(
        self,
        pool: str,
        tags: Sequence[bytes],
        excluded: Sequence[str],
        seconds: float,
        selection: Selection = ANY,
    ) -> Lease:
        """See ports.Numbers."""
        name = chosen(self._cells_of(tenant_of(pool)), tags[0])
        lease = await self._cells[name].lease(pool, tags, excluded, seconds, selection)
        if len(self._leased) >= _REMEMBERED:  # long bound or run out
            self._leased.clear()
        self._leased[lease.number, lease.epoch] = name
        return lease

    def give_back(self, pool: str, lease: Lease) -> None:
        """See ports.Numbers."""
        name = self._leased.pop((lease.number, lease.epoch), None)
        if name is not None:  # else it runs out by itself
            self._cells[name].give_back(pool, lease)


_REMEMBERED: Final = 100_000


def tenant_of(pool: str) -> str:
    """The tenant of `tenants/<tenant>/pools/<pool>`."""
    return pool.split("/")[1] if pool.startswith("tenants/") else ""


def _taken_out(stored: Stored) -> tuple[str, Stored]:
    assert isinstance(stored.sealed, Placed)
    return stored.sealed.cell, replace(stored, sealed=stored.sealed.sealed)
