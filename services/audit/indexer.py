"""Follows the log and feeds the index: leaves in order, in batches, from the served folder.

Knows no Kafka: what is not a published leaf cannot be found. A thread of the service today; it
needs nothing of it, so it may as well be a process of its own, or several. Invariant: the index
holds the leaves below its size and no others, since each batch begins where the index ends.
"""

import threading
from collections.abc import Callable
from typing import Final, Protocol

from services.audit.domain import IndexRow
from services.audit.ports import EventIndex, PublishedLog, StorageConflict
from services.audit.storage import RETRY_SECONDS, Faults
from services.runtime.errors import Unavailable

# Leaves per transaction: a commit costs about as much as 200 rows.
BATCH: Final = 2048
# Reading the checkpoint file costs 30 µs; an event can be found this much after its checkpoint.
POLL_SECONDS: Final = 0.05


class Gauge(Protocol):
    """Takes the number of leaves that are published and not indexed."""

    def set(self, value: float) -> None: ...


class Indexer:
    """Feeds one index from one log."""

    def __init__(
        self,
        log: PublishedLog,
        index: EventIndex,
        extract: Callable[[int, bytes], IndexRow],
        lag: Gauge,
        faults: Faults,
    ) -> None:
        self._log = log
        self._index = index
        self._extract = extract
        self._lag = lag
        self._faults = faults
        self._claimed = False
        self._grown = threading.Condition()  # guards _size, which says what is indexed
        self._size = 0

    def beyond(self, size: int, seconds: float) -> bool:
        """See `ports.Arrivals`."""
        with self._grown:
            return self._grown.wait_for(lambda: self._size > size, max(seconds, 0))

    def run(self, stop: threading.Event) -> None:
        """Follows until `stop` is set; while log or index cannot be read or written, tries again.

        Raises:
            StorageConflict: the index is another log's, or has leaves that this log has not.
            anything else: a bug.
        """
        while not stop.is_set():
            worked, pause = 0, POLL_SECONDS
            try:
                worked = self.advance()
                self._faults.clear()
            except StorageConflict:
                raise
            except Exception as error:
                no_log = isinstance(error, Unavailable) and error.reason == "LOG_EMPTY"
                if not no_log and not self._faults.report(error):
                    raise
                pause = POLL_SECONDS if no_log else RETRY_SECONDS
            if not worked:
                stop.wait(pause)

    def run_or(self, failed: Callable[[Exception], None], stop: threading.Event) -> None:
        """`run` on a thread of its own. Its failure must end the process: an index that is not
        fed answers less and less of the truth."""
        try:
            self.run(stop)
        except Exception as error:
            failed(error)

    def advance(self) -> int:
        """Indexes the next batch; the number of leaves it had. 0: the index is up to date."""
        published = self._log.published()
        first, size = self._index.size, published.tree.size
        if size and not self._claimed:
            # What a log begins with stays, and is no other log's; its keys may change.
            self._index.claim(published.tree.leaf_hash(0).hex())
            self._claimed = True
        if first > size:
            raise StorageConflict("the index is ahead of the log; remove it, it is made anew")
        until = min(first + BATCH, size)
        rows = [
            self._extract(leaf, entry)
            for start, entries in published.tree.entries(first, until)
            for leaf, entry in enumerate(entries, start)
        ]
        if rows:
            self._index.add(rows)
        self._lag.set(size - until)
        with self._grown:
            self._size = until
            self._grown.notify_all()
        return len(rows)
