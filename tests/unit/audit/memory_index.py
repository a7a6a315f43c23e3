"""The readers' side of audit in memory: an index that is a list, and a log that is a store."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from services.audit.domain import Filter, IndexRow
from services.audit.entry import event_id_of
from services.audit.logfolder import Event, LogFolder
from services.audit.ports import Published, StorageConflict, Term
from services.audit.reader import StoredTree
from services.runtime.errors import Unavailable


class MemoryIndex:
    """EventIndex as its contract says it, word for word."""

    def __init__(self) -> None:
        self.rows: list[IndexRow] = []
        self.log = ""

    def claim(self, log: str) -> None:
        self.log = self.log or log
        if self.log != log:
            raise StorageConflict("another log's")

    @property
    def size(self) -> int:
        return len(self.rows)

    def add(self, rows: Sequence[IndexRow]) -> None:
        fresh = [row for row in rows if row.leaf >= self.size]
        if fresh and fresh[0].leaf != self.size:
            raise ValueError("a gap")
        self.rows += fresh
        ended = {row.purged for row in fresh} - {""}
        self.rows = [
            replace(row, order_tag=None, parties=()) if row.bucket in ended else row
            for row in self.rows
        ]

    def find(self, event_id: str) -> int | None:
        return next((row.leaf for row in self.rows if row.event_id == event_id), None)

    def has_tenant(self, tenant: str) -> bool:
        return any(row.tenant == tenant for row in self.rows)

    def lived(self, number: str, at_ms: int, limit: int) -> list[Term]:
        found: dict[Term, list[IndexRow]] = {}
        for row in self.rows:
            if row.until_ms is not None and number in row.numbers:
                found.setdefault(Term(row.tenant, row.binding), []).append(row)
        began = sorted(found, key=lambda term: (found[term][0].time_ms, found[term][0].leaf))
        return [term for term in began if _lived(found[term], at_ms)][:limit]

    def parties(self, leaf: int) -> frozenset[bytes]:
        return frozenset(self.rows[leaf].parties)

    def query(self, wanted: Filter, first: int, below: int, limit: int) -> list[int]:
        found = [row.leaf for row in self.rows[first:below] if _fits(row, wanted)]
        return found[:limit]


def _lived(rows: list[IndexRow], at_ms: int) -> bool:
    ends = [row.until_ms or 0 for row in rows if row.ended]
    until = min(ends) if ends else max(row.until_ms or 0 for row in rows)
    return rows[0].time_ms <= at_ms < until


def _fits(row: IndexRow, wanted: Filter) -> bool:
    return all(
        (
            wanted.tenant in ("", row.tenant),
            wanted.binding in ("", row.binding),
            wanted.order_tag in (None, row.order_tag),
            wanted.number == "" or wanted.number in row.numbers,
            wanted.type in ("", row.type),
            wanted.call in ("", row.call),
            wanted.party is None or wanted.party in row.parties,
            wanted.start_ms is None or row.time_ms >= wanted.start_ms,
            wanted.end_ms is None or row.time_ms < wanted.end_ms,
        )
    )


class MemoryArrivals:
    """Arrivals that never sleep: each wait takes the next of `steps`, which may feed the index."""

    def __init__(self, index: MemoryIndex) -> None:
        self._index = index
        self.steps: list[Callable[[], None]] = []

    def beyond(self, size: int, seconds: float) -> bool:
        while self._index.size <= size:
            if not self.steps:
                return False
            self.steps.pop(0)()
        return True


class MemoryLog:
    """PublishedLog that grows when the test says so; its entries lie in a real folder."""

    def __init__(self, folder: LogFolder) -> None:
        self._folder = folder
        self.empty = False
        self._witnessed: Published | None = None

    @classmethod
    @contextmanager
    def made(
        cls, root: Path, id_of: Callable[[bytes], bytes] = event_id_of
    ) -> "Iterator[MemoryLog]":
        folder = LogFolder.open(root, "axbridge.example/log", id_of)
        try:
            yield cls(folder)
        finally:
            folder.close()

    def append(self, *events: Event) -> None:
        self._folder.append(events, b"")

    @property
    def vkey(self) -> str:
        return "a key"

    def published(self) -> Published:
        if self.empty:
            raise Unavailable("LOG_EMPTY")
        tree: StoredTree = self._folder.log.tree
        return Published(self._folder.log.note, (self.vkey,), tree)

    def witness(self) -> None:
        """Enough witnesses cosign what is published now."""
        published = self.published()
        self._witnessed = replace(published, note=published.note + b"cosigned\n")

    def witnessed(self) -> Published | None:
        return self._witnessed
