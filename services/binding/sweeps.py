"""Bindings that are due, many in a function call; implements ports.Sweeps.

Refuses to hold up answers: it puts some hundred together, lets others have their turn, and the
store works meanwhile. Invariant: each binding is ended by itself, in one write, from the version
that was read; what one of them leads to says nothing of the others.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from services.binding.domain import Binding
from services.binding.ports import Lost, Stored, Unreadable
from services.binding.records import Records
from services.binding.replies import unreadable
from services.binding.store import CellBindings, Put
from services.runtime.cell import Argument, Cell
from services.runtime.clock import Clock
from services.runtime.errors import DataLoss
from services.runtime.keyring import KeyDestroyed

_AT_ONCE: Final = 100  # of a call: about 5 ms in which the store serves nobody else

T = TypeVar("T")


class CellSweeps:
    """The sweepers' view of a cell."""

    def __init__(self, cell: Cell, bindings: CellBindings, records: Records, clock: Clock) -> None:
        self._cell = cell
        self._bindings = bindings
        self._records = records
        self._clock = clock
        self.due = bindings.due
        self.postpone = bindings.postpone
        self.published = bindings.published

    async def read(self, ids: Sequence[str]) -> Sequence[Stored | Unreadable | None]:
        """See ports.Sweeps."""
        found: list[Stored | Unreadable | None] = []
        for start in range(0, len(ids), _AT_ONCE):
            some = ids[start : start + _AT_ONCE]
            reply = await self._cell.call(
                "get_many", [self._bindings.places.binding(each) for each in some]
            )
            for each, record, order_tag in zip(some, reply[1::2], reply[2::2], strict=True):
                found.append(self._opened(each, record, order_tag) if record else None)
        return found

    async def expire(self, ends: Sequence[tuple[Stored, Binding]]) -> Sequence[int | Unreadable]:
        """See ports.Sweeps."""

        def put(end: tuple[Stored, Binding]) -> Put:
            old, new = end
            made = self._bindings.ended(old, new)
            made.args.extend((old.binding.version, 1))
            return made

        return await self._many("release_many", put, ends)

    async def unname(self, changes: Sequence[tuple[Stored, Binding]]) -> list[int | Unreadable]:
        """See ports.Sweeps."""
        return list(await asyncio.gather(*(self._unname(*change) for change in changes)))

    async def _unname(self, old: Stored, new: Binding) -> int | Unreadable:
        try:
            return await self._bindings.change(old, new)
        except Lost:
            return 0
        except (DataLoss, KeyDestroyed) as why:
            return why

    async def forget(self, olds: Sequence[Stored]) -> Sequence[int | Unreadable]:
        """See ports.Sweeps."""
        now = self._clock.epoch_ms()

        def drop(old: Stored) -> Put:
            b = old.binding
            return self._bindings.dropping(
                old, self._records.tombstones(b.numbers, b.id, b.version, now)
            )

        return await self._many("forget_many", drop, olds)

    def _opened(self, binding: str, record: bytes, order_tag: bytes) -> Stored | Unreadable:
        try:
            stored = self._bindings.stored(record, order_tag)
        except (DataLoss, KeyDestroyed) as why:
            return why
        # Octets may decode and yet be of nothing that could be ended: it would lead for ever.
        return stored if stored.binding.id == binding else unreadable()

    async def _many(
        self, function: str, make: Callable[[T], Put], items: Sequence[T]
    ) -> list[int | Unreadable]:
        """The function's answer for each; what cannot be made is not sent."""
        outcomes: list[int | Unreadable] = [0] * len(items)
        calls = []
        for start in range(0, len(items), _AT_ONCE):
            keys: list[str] = []
            args: list[Argument] = []
            sent = []
            for place in range(start, min(start + _AT_ONCE, len(items))):
                try:
                    put = make(items[place])
                except (DataLoss, KeyDestroyed) as why:
                    outcomes[place] = why
                    continue
                args += (len(put.keys), len(put.args), *put.args)
                keys += put.keys
                sent.append(place)
            calls.append((sent, asyncio.create_task(self._cell.call(function, keys, args))))
            await asyncio.sleep(0)  # it is on its way while the next is made
        # All come to their end, also where one fails: none is under way when the sweeper goes on.
        replies = await asyncio.gather(*(call for _, call in calls), return_exceptions=True)
        for (sent, _), reply in zip(calls, replies, strict=True):
            if isinstance(reply, BaseException):
                raise reply
            for place, sequence in zip(sent, reply[1:], strict=True):
                outcomes[place] = int(sequence)
        return outcomes
