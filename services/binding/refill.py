"""Puts bindings back into a store that lost them: many in a function call, many calls under way.

Refuses to wait for one call before the next is made: what a call costs beside its work is most of
its time, and the store works while the next one is put together. Invariant: calls reach the store
in the order of the records, and all have ended before `settle` returns.
"""

import asyncio
import heapq
from collections.abc import Collection, Sequence
from typing import Any, Final

from services.binding.domain import Binding
from services.binding.messages import read_state
from services.binding.store import CellBindings
from services.binding.vault import KeyedTags
from services.runtime.cell import Argument, Cell, unavailable
from services.runtime.clock import Clock
from services.runtime.envelope import header_int
from services.runtime.record import Record
from services.runtime.tasks import ended

_AT_ONCE: Final = 100  # bindings of a call: about 3 ms in which the store serves nobody else
_UNDER_WAY: Final = 40  # calls: 4 MB
_TURNS: Final = 4  # of the loop: to hear an answer, wake who waits, send what waits, go on
_UNSURE: Final = 1000  # entries: a relay has at most 500 in flight, and the one before it as many


class Refill:
    """Of one cell; `begin`, then `put` as often as there are records, then `settle`."""

    def __init__(self, cell: Cell, bindings: CellBindings, tags: KeyedTags, clock: Clock) -> None:
        self._cell = cell
        self._bindings = bindings
        self._tags = tags
        self._clock = clock
        self._sent: list[asyncio.Task[Any]] = []  # oldest first
        self._recent: list[tuple[int, str]] = []  # a heap of (outbox sequence, binding)

    async def begin(self) -> None:
        """A heal begins or has ended; what is left of one that broke off is dropped."""
        await ended(self._sent)
        self._sent.clear()
        self._recent.clear()

    async def put(self, records: Sequence[Record], epoch: bytes) -> list[Record]:
        """Restores the bindings among records of the state topic; the records that are none.
        Raises Unavailable."""
        others = []
        keys: list[str] = []
        args: list[Argument] = []
        held, now = 0, self._clock.epoch_ms()
        for record in records:
            message = None if record.value is None else read_state(record.value)
            if message is None:
                others.append(record)
                continue
            binding, put = self._bindings.restored(message, self._order_tag)
            requests, answers = self._bindings.places.answers(binding, now)
            args += (len(put.keys) + len(requests), len(put.args) + 1 + len(answers))
            keys += (*put.keys, *requests)
            args += (*put.args, 0, *answers)
            held += 1
            self._note(binding.id, header_int(record.headers, "ce_axsequence"))
            if held == _AT_ONCE:
                await self._send(epoch, keys, args)
                keys, args, held = [], [], 0
        if held:
            await self._send(epoch, keys, args)
        return others

    async def settle(self) -> Collection[str]:
        """Waits for all calls; the bindings of the last entries that a relay handled before the
        loss. Raises Unavailable."""
        await self._wait(0)
        return {binding for _, binding in self._recent}

    async def _send(self, epoch: bytes, keys: Sequence[str], args: Sequence[Argument]) -> None:
        self._sent.append(asyncio.create_task(self._restored(epoch, keys, args)))
        for _ in range(_TURNS):  # it is on its way, and answers are heard, while the next is made
            await asyncio.sleep(0)
        await self._wait(_UNDER_WAY)

    async def _restored(self, epoch: bytes, keys: Sequence[str], args: Sequence[Argument]) -> None:
        reply = await self._cell.call_as(epoch, "restore_many", keys, args)
        if reply[0] != b"OK":
            raise unavailable(reply[0].decode())

    async def _wait(self, most: int) -> None:
        while len(self._sent) > most:
            await self._sent[0]
            del self._sent[0]

    def _note(self, binding: str, sequence: int) -> None:
        if len(self._recent) < _UNSURE:
            heapq.heappush(self._recent, (sequence, binding))
        elif sequence > self._recent[0][0]:
            heapq.heapreplace(self._recent, (sequence, binding))

    def _order_tag(self, binding: Binding) -> str:
        order = binding.terms.order_id
        return self._tags.order(binding.tenant, order).hex() if order else ""
