"""ports.Blacklist in memory, beside a MemoryBindings that is judged by it."""

from collections.abc import Sequence

from services.binding.blacklist import Entry, Mark, Target
from services.binding.domain import Answered
from services.binding.ports import Answer, Lost, StoredEntry, Taken
from tests.unit.binding.memory import DAY_MS, TENANT, MemoryBindings


class MemoryBlacklist:
    """Dictionaries that behave."""

    def __init__(self, bindings: MemoryBindings) -> None:
        self.marks = bindings.listed
        self.requests = bindings.requests
        self.rows: dict[str, Entry] = {}
        self.waited: list[int] = []
        self._sequence = 0

    async def answered(self, tenant: str, request_id: str) -> Answer | None:
        return self.requests.get((tenant, request_id))

    async def mark(self, tenant: str, target: Target) -> Mark | None:
        return self.marks.get((tenant, target))

    async def put(self, entry: Entry, request: Answered | None, before: Mark | None = None) -> int:
        known = request and self.requests.get((entry.tenant, request.request_id))
        if known:
            raise Taken(known)
        old, key = self.rows.get(entry.id), (entry.tenant, entry.target)
        if (old.version if old else 0) != entry.version - 1:
            raise Lost
        if old is None and self.marks.get(key) != before:
            raise Lost
        self.rows[entry.id] = entry
        if entry.active:
            self.marks[key] = Mark.parse(entry.mark)
        elif key in self.marks and self.marks[key].entry == entry.id:
            del self.marks[key]
        if request:
            answer = Answer(request.body_hash, entry.id)
            self.requests[entry.tenant, request.request_id] = answer
        self._sequence += 1
        return self._sequence

    async def get(self, tenant: str, entry: str) -> StoredEntry | None:
        row = self.rows.get(entry)
        if row is None or row.tenant != tenant:
            return None
        return StoredEntry(row, self._sequence)

    async def page(self, tenant: str, tag: bytes, after: str, limit: int) -> Sequence[str]:
        return [
            identity
            for identity, row in sorted(self.rows.items())
            if row.tenant == tenant and (not tag or row.target.caller == tag) and identity > after
        ][:limit]

    async def published(self, sequence: int, seconds: float) -> None:
        self.waited.append(sequence)


def entry(now: int, identity: str, target: Target, life_ms: int = DAY_MS) -> Entry:
    """An entry that is in force, with a request of its own."""
    request = Answered(f"request-{identity}", b"h" * 16, now, 1)
    return Entry(TENANT, identity, target, now, now + life_ms, (request,))
