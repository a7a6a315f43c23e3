"""The use cases that create and read, in the order of the proto's rpcs.

Refuses to answer a write before Kafka has it. Invariant: whatever a caller repeats under one
request id, one binding comes of it.
"""

import asyncio
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Final

from services.binding import paging
from services.binding.answers import WAIT_SECONDS, Answers, Applied
from services.binding.commands import Create, Find
from services.binding.domain import (
    SHORTEST_MS,
    Answered,
    Binding,
    Lease,
    Mode,
)
from services.binding.ports import (
    Bindings,
    ConsentsChanged,
    Ids,
    Index,
    LeaseRefused,
    Numbers,
    Tags,
    Taken,
)
from services.runtime.clock import Clock
from services.runtime.errors import Aborted, AxbridgeError, FailedPrecondition, Unavailable
from services.runtime.phone import PhoneNumber

_LEASES: Final = 16  # tries: allocator's picture lags by one event, so the second mostly fits
_RACES: Final = 20  # for an extension: each lost one was won by somebody else


class Handlers:
    """`changes.Changes` has the others; `deadline` is on the clock's monotonic scale."""

    def __init__(
        self,
        bindings: Bindings,
        numbers: Numbers,
        tags: Tags,
        ids: Ids,
        clock: Clock,
        shortest_ms: int = SHORTEST_MS,
        draw: Callable[[int], int] = secrets.randbelow,
    ) -> None:
        self._bindings = bindings
        self._numbers = numbers
        self._tags = tags
        self._ids = ids
        self._clock = clock
        self._shortest_ms = shortest_ms
        self._answers = Answers(bindings, clock)
        self._draw = draw

    async def create(self, wish: Create, deadline: float) -> Binding:
        """Binds through a number of the pool. See CreateBinding."""
        return await self._answers.told(await self.apply(wish, deadline), deadline)

    async def apply(self, wish: Create, deadline: float) -> Applied:
        """The same; Kafka may not have it yet: see `Answers.told`."""
        tenant = wish.tenant
        body = self._tags.body(tenant, wish.canonical())
        tag_b = self._tags.party(tenant, wish.b.e164) if wish.b else b""
        tags = self._tags.party(tenant, wish.a.e164), tag_b
        if wish.life_ms:
            expire_ms = self._clock.epoch_ms() + wish.life_ms
            wish = replace(wish, terms=replace(wish.terms, expire_ms=expire_ms))
        terms = wish.terms
        excluded: tuple[str, ...] = ()
        for _ in range(_LEASES):
            try:
                terms.check(self._clock.epoch_ms(), self._shortest_ms)
                consents = await self._bindings.consented(tenant, terms.pool, tags)
                leases = await self._lease(wish, tags, excluded, deadline)
            except AxbridgeError as why:
                # A repeated request gets its answer also where allocator is away, the pool is
                # empty or the expiry has come near. It is rare, so it is not asked for before.
                return await self._answers.instead(why, tenant, wish.request_id, body)
            try:
                terms.check_number(exclusive=leases[0].exclusive)
                return await self._bind(wish, body, tags, consents, leases)
            except ConsentsChanged:
                self._give_back(terms.pool, leases)
            except LeaseRefused as refusal:
                refused, stale = refusal.number, refusal.reason == "LEASE_STALE"
                kept = (each for each in leases if not stale or each.number != refused)
                self._give_back(terms.pool, kept)
                if refused != wish.selection.number:
                    excluded += (refused,)
                elif not stale:
                    raise FailedPrecondition(
                        "NUMBER_UNAVAILABLE", "the number cannot be given out now",
                        number=refused, why=refusal.reason,
                    ) from None  # fmt: skip
            except Taken as twin:
                self._give_back(terms.pool, leases)
                return await self._answers.again(twin.answer, body)
            except FailedPrecondition:
                self._give_back(terms.pool, leases)
                raise
        # Not POOL_EXHAUSTED: that is for allocator to say, when no number can take the parties.
        raise Aborted("CONFLICT", "others were faster on one number after another: repeat")

    async def _lease(
        self,
        wish: Create,
        tags: tuple[bytes, bytes],
        excluded: tuple[str, ...],
        deadline: float,
    ) -> tuple[Lease, ...]:
        """A number, or two for mode AXYB, of which the first is the one that was named or had
        before. If we die between the two, the first lease runs out."""
        pool, known, left = wish.terms.pool, tags if tags[1] else tags[:1], self._answers.left
        first = await self._numbers.lease(pool, known, excluded, left(deadline), wish.selection)
        if wish.terms.mode is not Mode.AXYB:
            return (first,)
        others = (*excluded, first.number)
        try:
            other = replace(wish.selection, number="", sticky=False)
            return first, await self._numbers.lease(pool, known, others, left(deadline), other)
        except AxbridgeError:
            self._give_back(pool, (first,))
            raise

    def _give_back(self, pool: str, leases: Iterable[Lease]) -> None:
        for lease in leases:
            self._numbers.give_back(pool, lease)

    async def _bind(
        self,
        wish: Create,
        body: bytes,
        tags: tuple[bytes, bytes],
        consents: tuple[str, str],
        leases: tuple[Lease, ...],
    ) -> Applied:
        """The new binding. If we die before the write, the leases run out."""
        lease, last = leases[0], leases[-1]
        now, tenant = self._clock.epoch_ms(), wish.tenant
        request = Answered(wish.request_id, body, now, 1)
        binding = Binding(
            tenant, self._ids.new(), lease.number, wish.terms, *tags, lease.epoch,
            lease.cooling_ms, lease.exclusive, now, now, (request,),
            consent_a=consents[0], consent_b=consents[1], pair_cooling_ms=lease.pair_cooling_ms,
        )  # fmt: skip
        if last is not lease:
            options = replace(wish.terms.options, numbers=f"{lease.number}-{last.number}")
            terms = replace(wish.terms, options=options)
            binding = replace(binding, terms=terms, second_epoch=last.epoch)
            lease = replace(lease, deadline_ms=min(lease.deadline_ms, last.deadline_ms))
        try:
            return await self._created(binding, wish, lease)
        except Unavailable as why:
            if why.reason != "STORE_UNAVAILABLE":  # then it may have been applied
                self._give_back(wish.terms.pool, leases)
            raise

    async def _created(self, binding: Binding, wish: Create, lease: Lease) -> Applied:
        """The binding as stored, with an extension where its mode has one."""
        order_tag = self._tags.order(wish.tenant, wish.terms.order_id)
        digits = wish.extension_digits
        for _ in range(_RACES):
            if digits:
                start = self._draw(10**digits)
                extension = await self._bindings.extension(binding, digits, start)
                if extension is None:
                    raise LeaseRefused("NUMBER_FULL", binding.number)
                options = replace(wish.terms.options, extension=extension)
                binding = replace(binding, terms=replace(wish.terms, options=options))
            try:
                sequence = await self._bindings.create(binding, wish.a, wish.b, order_tag, lease)
            except LeaseRefused as refusal:
                if refusal.reason != "EXTENSION_TAKEN":
                    raise
            else:
                return Applied(binding, sequence)
        raise LeaseRefused("EXTENSION_TAKEN", binding.number)

    async def get(self, tenant: str, binding: str) -> Binding:
        """The binding. Raises NotFound (BINDING_NOT_FOUND), also for another tenant's."""
        stored = await self._answers.stored(tenant, binding)
        # What is shown must not vanish with a lost store, so it is on Kafka before it is shown.
        await self._bindings.published(stored.sequence, WAIT_SECONDS)
        return stored.binding

    async def list(self, wish: Find) -> tuple[Sequence[Binding], str]:
        """A page of bindings, oldest first, and the token of the next."""
        ids, token = await self.ids(wish)
        found = await asyncio.gather(*map(self._bindings.get, ids))
        known = [stored for stored in found if stored is not None]  # else just forgotten
        for sequence in {stored.sequence for stored in known}:  # mostly 0; of several cells, each
            await self._bindings.published(sequence, WAIT_SECONDS)
        return [stored.binding for stored in known if not stored.binding.restricted], token

    async def ids(self, wish: Find) -> tuple[Sequence[str], str]:
        """A page of ids of bindings, oldest first, and the token of the next."""
        index = self._index(wish)
        mark = self._tags.body(wish.tenant, f"page\x1f{index.kind}\x1f{index.value}")[:8]
        after = paging.after(wish.token, mark)
        ids = await self._bindings.page(wish.tenant, index, after, wish.limit + 1)
        more = len(ids) > wish.limit
        ids = ids[: wish.limit]
        return ids, paging.token(mark, ids[-1]) if more else ""

    def _index(self, wish: Find) -> Index:
        if isinstance(wish.by, PhoneNumber):
            return Index("party", self._tags.party(wish.tenant, wish.by.e164).hex())
        if wish.kind == "order":
            return Index("order", self._tags.order(wish.tenant, wish.by).hex())
        return Index("number", wish.by)
