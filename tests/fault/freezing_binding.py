"""`python -m services.binding` whose relay stops its own process right before one produce.

The first batch that holds an event of type FREEZE_BEFORE is read from the outbox, then SIGSTOP.
Once woken it is produced whole before anything else runs, so the process cannot learn first that
it was deposed: the worst case of a frozen relay, every time.
"""

import asyncio
import os
import signal
import threading
from collections.abc import Sequence
from functools import partial

from services.binding import service
from services.binding.__main__ import main
from services.runtime.owner import Owner
from services.runtime.publisher import Outgoing, Publisher
from services.runtime.server import run

_BOOTSTRAP = os.environ["BINDING_KAFKA_BOOTSTRAP"]
_KIND = os.environ["FREEZE_BEFORE"].encode()


class Freezing:
    """A Publisher that stops the process once."""

    frozen = False

    def __init__(self) -> None:
        self._inner = Publisher(_BOOTSTRAP)

    async def publish(self, batch: Sequence[Outgoing]) -> None:
        """See Publishing."""
        if not Freezing.frozen and any(("ce_type", _KIND) in each.headers for each in batch):
            Freezing.frozen = True
            os.kill(os.getpid(), signal.SIGSTOP)
            late = threading.Thread(target=lambda: asyncio.run(self._inner.publish(batch)))
            late.start()
            late.join()
        else:
            await self._inner.publish(batch)

    def close(self) -> None:
        """See Publishing."""
        self._inner.close()


if __name__ == "__main__":
    service.Owner = partial(Owner, connect=Freezing)  # type: ignore[assignment, attr-defined]
    run(main)
