"""Many commands at once, each with an outcome of its own.

Refuses to order them: they are handled side by side, and meet in the calls to allocator, the
store's pipelines and the relay's batches, as single rpcs do. Invariant: an item's outcome is what
its own rpc would have answered; no item's failure reaches another.
"""

import asyncio
from collections.abc import Sequence
from typing import Final, TypeAlias

from services.binding.answers import Answers, Applied
from services.binding.changes import Changes
from services.binding.commands import Command, Create, Find, Release
from services.binding.domain import Binding
from services.binding.handlers import Handlers
from services.runtime.clock import Clock
from services.runtime.errors import AxbridgeError

Item: TypeAlias = Command | AxbridgeError  # what is to be done, or why it cannot even be read
Outcome: TypeAlias = Binding | Exception

_WAIT_SECONDS: Final = 5.0


class Batches:
    """See BatchCreateBindings and ReleaseOrder."""

    def __init__(
        self, handlers: Handlers, changes: Changes, answers: Answers, clock: Clock
    ) -> None:
        self._handlers = handlers
        self._changes = changes
        self._answers = answers
        self._clock = clock

    async def run(self, items: Sequence[Item], deadline: float) -> Sequence[Outcome]:
        """What became of each, once Kafka has all that was done."""
        done = await asyncio.gather(*(self._one(each, deadline) for each in items))
        # One wait: who is told of the newest sequence is told of all before it at once. One of a
        # store epoch that was lost meanwhile is refused by itself.
        until = min(deadline, self._clock.monotonic() + _WAIT_SECONDS)
        applied = [(at, each) for at, each in enumerate(done) if isinstance(each, Applied)]
        told: dict[int, Outcome] = {}
        for at, each in sorted(applied, key=lambda found: -found[1].sequence):
            try:
                told[at] = await self._answers.told(each, until)
            except AxbridgeError as late:
                told[at] = late
        return [each if isinstance(each, Exception) else told[at] for at, each in enumerate(done)]

    async def release_order(
        self, wish: Find, deadline: float
    ) -> tuple[Sequence[tuple[str, Outcome]], str]:
        """What became of a page of an order's bindings, and the token of the next."""
        ids, token = await self._handlers.ids(wish)
        outcomes = await self.run([Release(wish.tenant, each, 0) for each in ids], deadline)
        return list(zip(ids, outcomes, strict=True)), token

    async def _one(self, item: Item, deadline: float) -> Applied | Exception:
        if isinstance(item, AxbridgeError):
            return item
        try:
            if isinstance(item, Create):
                return await self._handlers.apply(item, deadline)
            return await self._changes.apply(item)
        except Exception as error:  # rendered as its own rpc would be, a defect as an incident
            return error
