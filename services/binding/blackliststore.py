"""Entries of blacklists in a cell; implements ports.Blacklist.

Refuses to show an entry whose purge bucket is erased: it is as if forgotten. Invariant: an entry
and the mark that creates are judged by change together.
"""

from collections.abc import Sequence

from services.binding.blacklist import Entry, Mark, Target
from services.binding.blacklistmessages import BlacklistMessages, entry_place
from services.binding.domain import Answered
from services.binding.ports import Answer, StoredEntry
from services.binding.registerstore import ANY, CellRegisters
from services.runtime.keyring import KeyDestroyed


class CellBlacklist:
    """The entries of one cell."""

    def __init__(self, registers: CellRegisters, messages: BlacklistMessages) -> None:
        self._registers = registers
        self._messages = messages

    async def answered(self, tenant: str, request_id: str) -> Answer | None:
        """See ports.Blacklist."""
        return await self._registers.answered(tenant, request_id)

    async def mark(self, tenant: str, target: Target) -> Mark | None:
        """See ports.Blacklist."""
        text = await self._registers.mark("blacklist", tenant, target.field)
        return Mark.parse(text) if text else None

    async def put(self, entry: Entry, request: Answered | None, before: Mark | None = None) -> int:
        """See ports.Blacklist."""
        mark = (str(before) if before else "") if entry.version == 1 else ANY
        register = self._messages.register(entry)
        return await self._registers.put(register, entry.version - 1, request, mark)

    async def get(self, tenant: str, entry: str) -> StoredEntry | None:
        """See ports.Blacklist."""
        raw = await self._registers.get(entry_place(tenant, entry))
        if raw is None:
            return None
        try:
            return StoredEntry(self._messages.entry(raw.state.blacklist_entry), raw.sequence)
        except KeyDestroyed:
            return None

    async def page(self, tenant: str, tag: bytes, after: str, limit: int) -> Sequence[str]:
        """See ports.Blacklist."""
        return await self._registers.page("blacklist", tenant, tag, after, limit)

    async def published(self, sequence: int, seconds: float) -> None:
        """See ports.Blacklist."""
        await self._registers.published(sequence, seconds)
