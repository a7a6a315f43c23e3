"""The use cases of BlacklistService, in the order of the proto's rpcs.

Refuses to answer a write before Kafka has it. Invariant: of a target one entry is in force at most,
and once its adding is answered, nothing that it forbids is bound until it ends.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from services.binding import paging
from services.binding.blacklist import LONGEST_MS, Entry, EntryState, Target
from services.binding.domain import SHORTEST_MS, Answered, check_expiry
from services.binding.ports import Answer, Blacklist, Ids, Lost, StoredEntry, Tags, Taken
from services.runtime.clock import Clock
from services.runtime.errors import Aborted, AlreadyExists, AxbridgeError, NotFound
from services.runtime.phone import PhoneNumber

_RACES: Final = 5
_WAIT_SECONDS: Final = 5.0
_MARGIN_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True, repr=False)
class Add:
    """What is to be listed. `callee` None: the caller alone; `pool` empty: all of the tenant."""

    tenant: str
    request_id: str
    caller: PhoneNumber
    callee: PhoneNumber | None
    pool: str
    expire_ms: int


@dataclass(frozen=True, slots=True)
class Seen:
    """An entry and the state it is shown in."""

    entry: Entry
    state: EntryState


class BlacklistHandlers:
    """Every use case of the service; `deadline` is on the clock's monotonic scale."""

    def __init__(
        self,
        blacklist: Blacklist,
        tags: Tags,
        ids: Ids,
        clock: Clock,
        shortest_ms: int = SHORTEST_MS,
    ) -> None:
        self._blacklist = blacklist
        self._tags = tags
        self._ids = ids
        self._clock = clock
        self._shortest_ms = shortest_ms

    async def add(self, wish: Add, deadline: float) -> Seen:
        """See AddBlacklistEntry."""
        tenant, callee = wish.tenant, wish.callee.e164 if wish.callee else ""
        body = self._tags.body(tenant, "\x1f".join((
            "blacklist", wish.caller.e164, callee, wish.pool, str(wish.expire_ms),
        )))  # fmt: skip
        target = Target(
            self._tags.party(tenant, wish.caller.e164),
            self._tags.party(tenant, callee) if callee else b"",
            wish.pool,
        )
        for _ in range(_RACES):
            now = self._clock.epoch_ms()
            try:
                check_expiry(wish.expire_ms, now, self._shortest_ms, LONGEST_MS)
                before = await self._blacklist.mark(tenant, target)
                if before is not None and before.expire_ms > now:
                    raise AlreadyExists(
                        "BLACKLIST_ENTRY_EXISTS", "it is listed already", entry=before.entry
                    )
                create = max(now, before.create_ms + 1) if before else now
                request = Answered(wish.request_id, body, now, 1)
                new = Entry(tenant, self._ids.new(), target, create, wish.expire_ms, (request,))
                sequence = await self._blacklist.put(new, request, before)
            except Lost:
                continue
            except Taken as twin:
                return await self._again(tenant, twin.answer, body, deadline)
            except AxbridgeError:  # the request may have been answered already
                answer = await self._blacklist.answered(tenant, wish.request_id)
                if answer is None:
                    raise
                return await self._again(tenant, answer, body, deadline)
            return await self._told(StoredEntry(new, sequence), self._left(deadline))
        raise _contended()

    async def get(self, tenant: str, entry: str) -> Seen:
        """See GetBlacklistEntry."""
        return await self._told(await self._stored(tenant, entry), _WAIT_SECONDS)

    async def remove(self, tenant: str, entry: str, deadline: float) -> Seen:
        """See RemoveBlacklistEntry."""
        for _ in range(_RACES):
            stored = await self._stored(tenant, entry)
            now = self._clock.epoch_ms()
            if stored.entry.seen(now) is EntryState.ACTIVE:
                ended = stored.entry.ended(now)
                try:
                    stored = StoredEntry(ended, await self._blacklist.put(ended, None))
                except Lost:
                    continue
            return await self._told(stored, self._left(deadline))
        raise _contended()

    async def list(
        self, tenant: str, number: PhoneNumber | None, limit: int, token: str
    ) -> tuple[Sequence[Seen], str]:
        """See ListBlacklistEntries."""
        tag = self._tags.party(tenant, number.e164) if number else b""
        mark = self._tags.body(tenant, f"page\x1fblacklist\x1f{tag.hex()}")[:8]
        ids = await self._blacklist.page(tenant, tag, paging.after(token, mark), limit + 1)
        more, ids = len(ids) > limit, ids[:limit]
        found = await asyncio.gather(*(self._blacklist.get(tenant, each) for each in ids))
        known = [stored for stored in found if stored is not None]  # else just forgotten
        newest = max((stored.sequence for stored in known), default=0)
        await self._blacklist.published(newest, _WAIT_SECONDS)
        return [self._seen(each) for each in known], paging.token(mark, ids[-1]) if more else ""

    async def _again(self, tenant: str, answer: Answer, body: bytes, deadline: float) -> Seen:
        """The answer to a repeated request: the entry as it stands now."""
        if answer.body_hash != body:
            raise AlreadyExists("REQUEST_ID_REUSED", "the request id came with another body")
        return await self._told(await self._stored(tenant, answer.binding), self._left(deadline))

    async def _stored(self, tenant: str, entry: str) -> StoredEntry:
        stored = await self._blacklist.get(tenant, entry)
        if stored is None:
            raise NotFound("BLACKLIST_ENTRY_NOT_FOUND", "no such entry", entry=entry)
        return stored

    async def _told(self, stored: StoredEntry, seconds: float) -> Seen:
        """The entry, once Kafka has it: what is shown must not vanish with a lost store."""
        await self._blacklist.published(stored.sequence, seconds)
        return self._seen(stored)

    def _seen(self, stored: StoredEntry) -> Seen:
        return Seen(stored.entry, stored.entry.seen(self._clock.epoch_ms()))

    def _left(self, deadline: float) -> float:
        return max(0.0, min(_WAIT_SECONDS, deadline - self._clock.monotonic() - _MARGIN_SECONDS))


def _contended() -> Aborted:
    return Aborted("CONFLICT", "others keep changing the entry: repeat")
