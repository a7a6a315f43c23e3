"""Who waits for which outbox sequence. Pure asyncio, one event loop.

Invariant: a waiter is woken only by an acknowledgement of its own store epoch; a sequence carries
its epoch in its high bits, so one of a lost store can never be taken for acknowledged.
"""

import asyncio
import heapq
from datetime import timedelta
from itertools import count
from typing import Final

from services.runtime.errors import Unavailable

EPOCH_SHIFT: Final = 32  # 4 billion entries per term; 2 million terms stay exact in a Lua number


def first_sequence(epoch: int) -> int:
    """The sequence before the first entry of a store epoch."""
    return epoch << EPOCH_SHIFT


def log_unavailable() -> Unavailable:
    """What a waiter gets whose entry was not acknowledged in time."""
    return Unavailable(
        "LOG_UNAVAILABLE",
        "the write is applied and waits for Kafka; retry with the same request id",
        retry_after=timedelta(seconds=1),
    )


class Acks:
    """The acknowledged sequence, and those who wait for a higher one."""

    def __init__(self) -> None:
        self._epoch = 0
        self._acked = 0
        self._waiters: list[tuple[int, int, asyncio.Future[None]]] = []
        self._ties = count()

    def advance(self, sequence: int) -> None:
        """Kafka has everything up to `sequence`. Of another store epoch than the one begun it says
        nothing: those who wait in a lost one would take the next one's for their own."""
        if sequence >> EPOCH_SHIFT != self._epoch:
            return
        self._acked = max(self._acked, sequence)
        while self._waiters and self._waiters[0][0] <= self._acked:
            _, _, future = heapq.heappop(self._waiters)
            if not future.done():
                future.set_result(None)

    def begin(self, epoch: int) -> None:
        """A store epoch begins; who waited in an older one gets LOG_UNAVAILABLE."""
        if epoch == self._epoch:
            return
        self._epoch, self._acked = epoch, first_sequence(epoch)
        waiters, self._waiters = self._waiters, []
        for _, _, future in waiters:
            if not future.done():
                future.set_exception(log_unavailable())

    async def wait(self, sequence: int, timeout: float) -> None:
        """Returns once `sequence` is acknowledged.

        Raises:
            Unavailable: LOG_UNAVAILABLE: not within `timeout` seconds, or the store was lost.
        """
        if sequence >> EPOCH_SHIFT != self._epoch:
            raise log_unavailable()
        if sequence <= self._acked:
            return
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiters, (sequence, next(self._ties), future))
        try:
            async with asyncio.timeout(timeout):
                await future
        except TimeoutError:
            raise log_unavailable() from None
