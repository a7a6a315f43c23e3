"""The use cases, in the order of the proto's rpcs.

Refuses to answer a write before Kafka has it. Invariant: whatever a caller repeats under one
request id, one binding and one change come of it.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Final, NamedTuple

from services.binding import paging
from services.binding.commands import Command, Create, Find, Release, Update
from services.binding.domain import (
    SHORTEST_MS,
    Answered,
    Binding,
    Lease,
    Reason,
    stale,
)
from services.binding.ports import (
    Answer,
    Bindings,
    ConsentsChanged,
    Ids,
    Index,
    LeaseRefused,
    Lost,
    Numbers,
    Stored,
    Tags,
    Taken,
)
from services.runtime.clock import Clock
from services.runtime.errors import (
    Aborted,
    AlreadyExists,
    AxbridgeError,
    FailedPrecondition,
    NotFound,
    ResourceExhausted,
    Unavailable,
)
from services.runtime.phone import PhoneNumber

_LEASES: Final = 4  # tries: allocator's picture lags by one event, so the second nearly always fits
_REFILL: Final = timedelta(seconds=5)
_RACES: Final = 5
_WAIT_SECONDS: Final = 5.0
_MARGIN_SECONDS: Final = 0.1  # the answer, LOG_UNAVAILABLE included, arrives inside the deadline


class Applied(NamedTuple):
    """What a command led to, and what to wait for before anybody is told of it."""

    binding: Binding
    sequence: int


class Handlers:
    """Every use case of the service; `deadline` is on the clock's monotonic scale."""

    def __init__(
        self,
        bindings: Bindings,
        numbers: Numbers,
        tags: Tags,
        ids: Ids,
        clock: Clock,
        shortest_ms: int = SHORTEST_MS,
    ) -> None:
        self._bindings = bindings
        self._numbers = numbers
        self._tags = tags
        self._ids = ids
        self._clock = clock
        self._shortest_ms = shortest_ms

    async def create(self, wish: Create, deadline: float) -> Binding:
        """Binds through a number of the pool. See CreateBinding."""
        return await self.told(await self._create(wish, deadline), deadline)

    async def apply(self, command: Command, deadline: float) -> Applied:
        """Does what is asked; Kafka may not have it yet: see `told`."""
        if isinstance(command, Create):
            return await self._create(command, deadline)
        if isinstance(command, Update):
            return await self._update(command)
        return await self._release(command)

    async def told(self, applied: Applied, deadline: float) -> Binding:
        """The binding, once Kafka has it. Raises Unavailable (LOG_UNAVAILABLE)."""
        await self._bindings.published(applied.sequence, self._left(deadline))
        return applied.binding

    async def _create(self, wish: Create, deadline: float) -> Applied:
        tenant = wish.tenant
        body = self._tags.body(tenant, wish.canonical())
        tags = self._tags.party(tenant, wish.a.e164), self._tags.party(tenant, wish.b.e164)
        if wish.life_ms:
            expire_ms = self._clock.epoch_ms() + wish.life_ms
            wish = replace(wish, terms=replace(wish.terms, expire_ms=expire_ms))
        terms = wish.terms
        excluded: tuple[str, ...] = ()
        for _ in range(_LEASES):
            try:
                terms.check(self._clock.epoch_ms(), self._shortest_ms)
                consents = await self._bindings.consented(tenant, terms.pool, tags)
                lease = await self._numbers.lease(terms.pool, tags, excluded, self._left(deadline))
            except AxbridgeError:
                # A repeated request gets its answer also where allocator is away, the pool is
                # empty or the expiry has come near. It is rare, so it is not asked for before.
                answer = await self._bindings.answered(tenant, wish.request_id)
                if answer is None:
                    raise
                return await self._again(answer, body)
            try:
                terms.check_number(exclusive=lease.exclusive)
                return await self._bind(wish, body, tags, consents, lease)
            except ConsentsChanged:
                self._numbers.give_back(terms.pool, lease)
            except LeaseRefused as refusal:
                if refusal.reason != "LEASE_STALE":
                    self._numbers.give_back(terms.pool, lease)
                excluded += (lease.number,)
            except Taken as twin:
                self._numbers.give_back(terms.pool, lease)
                return await self._again(twin.answer, body)
            except FailedPrecondition:
                self._numbers.give_back(terms.pool, lease)
                raise
        raise ResourceExhausted(
            "POOL_EXHAUSTED",
            "no number of the pool can take these parties now",
            retry_after=_REFILL,
            pool=terms.pool,
        )

    async def _bind(
        self,
        wish: Create,
        body: bytes,
        tags: tuple[bytes, bytes],
        consents: tuple[str, str],
        lease: Lease,
    ) -> Applied:
        """The new binding. If we die before the write, the lease runs out."""
        now, tenant = self._clock.epoch_ms(), wish.tenant
        request = Answered(wish.request_id, body, now, 1)
        binding = Binding(
            tenant, self._ids.new(), lease.number, wish.terms, *tags, lease.epoch,
            lease.cooling_ms, lease.exclusive, now, now, (request,),
            consent_a=consents[0], consent_b=consents[1],
        )  # fmt: skip
        order_tag = self._tags.order(tenant, wish.terms.order_id)
        try:
            sequence = await self._bindings.create(binding, wish.a, wish.b, order_tag, lease)
        except Unavailable as why:
            if why.reason != "STORE_UNAVAILABLE":  # then it may have been applied
                self._numbers.give_back(wish.terms.pool, lease)
            raise
        return Applied(binding, sequence)

    async def get(self, tenant: str, binding: str) -> Binding:
        """The binding. Raises NotFound (BINDING_NOT_FOUND), also for another tenant's."""
        stored = await self._stored(tenant, binding)
        # What is shown must not vanish with a lost store, so it is on Kafka before it is shown.
        await self._bindings.published(stored.sequence, _WAIT_SECONDS)
        return stored.binding

    async def list(self, wish: Find) -> tuple[Sequence[Binding], str]:
        """A page of bindings, oldest first, and the token of the next."""
        ids, token = await self.ids(wish)
        found = await asyncio.gather(*map(self._bindings.get, ids))
        known = [stored for stored in found if stored is not None]  # else just forgotten
        for sequence in {stored.sequence for stored in known}:  # mostly 0; of several cells, each
            await self._bindings.published(sequence, _WAIT_SECONDS)
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

    async def update(self, wish: Update, deadline: float) -> Binding:
        """Moves the expiry, compare-and-set by version. See UpdateBinding."""
        return await self.told(await self._update(wish), deadline)

    async def _update(self, wish: Update) -> Applied:
        body = self._tags.body(wish.tenant, wish.canonical())
        for _ in range(_RACES):
            request = Answered(wish.request_id, body, self._clock.epoch_ms(), 0)
            try:
                old = await self._stored(wish.tenant, wish.binding)
                new = old.binding.updated(wish.version, wish.expire_ms, request, self._shortest_ms)
            except AxbridgeError:
                # The request may have been answered already, also between two reads of ours, by
                # a twin that the caller gave up on: so it is asked for after what refuses it.
                answer = await self._bindings.answered(wish.tenant, wish.request_id)
                if answer is None:
                    raise
                return await self._again(answer, body)
            try:
                return Applied(new, await self._bindings.change(old, new))
            except Taken as twin:
                return await self._again(twin.answer, body)
            except Lost:
                continue  # read again: it says whether it is stale or has ended
        raise _contended()

    async def renew(self, tenant: str, binding: str, call_ms: int, deadline: float) -> Binding:
        """Moves the end behind a call, where that is later. See RenewBinding."""
        for _ in range(_RACES):
            old = await self._stored(tenant, binding)
            new = old.binding.renewed(call_ms, self._clock.epoch_ms())
            sequence = old.sequence
            try:
                if new is not old.binding:
                    sequence = await self._bindings.change(old, new)
            except Lost:
                continue
            await self._bindings.published(sequence, self._left(deadline))
            return new
        raise _contended()

    async def release(self, tenant: str, binding: str, version: int, deadline: float) -> Binding:
        """Ends the binding, or answers the ended one. See ReleaseBinding."""
        applied = await self._release(Release(tenant, binding, version))
        return await self.told(applied, deadline)

    async def _release(self, wish: Release) -> Applied:
        for _ in range(_RACES):
            old = await self._stored(wish.tenant, wish.binding)
            if not old.binding.live:
                return Applied(old.binding, old.sequence)
            if wish.version not in (0, old.binding.version):
                raise stale(old.binding.version)
            new = old.binding.released(self._clock.epoch_ms(), Reason.REQUESTED)
            try:
                return Applied(new, await self._bindings.release(old, new))
            except Lost:
                continue
        raise _contended()

    async def _again(self, answer: Answer, body: bytes) -> Applied:
        """The answer to a repeated request: the binding as it stands now."""
        if answer.body_hash != body:
            raise AlreadyExists("REQUEST_ID_REUSED", "the request id came with another body")
        stored = await self._bindings.get(answer.binding)
        if stored is None or stored.binding.restricted:
            raise _not_found(answer.binding)
        return Applied(stored.binding, stored.sequence)

    async def _stored(self, tenant: str, binding: str) -> Stored:
        stored = await self._bindings.get(binding)
        if stored is None or stored.binding.tenant != tenant or stored.binding.restricted:
            raise _not_found(binding)
        return stored

    def _index(self, wish: Find) -> Index:
        if isinstance(wish.by, PhoneNumber):
            return Index("party", self._tags.party(wish.tenant, wish.by.e164).hex())
        if wish.kind == "order":
            return Index("order", self._tags.order(wish.tenant, wish.by).hex())
        return Index("number", wish.by)

    def _left(self, deadline: float) -> float:
        return max(0.0, min(_WAIT_SECONDS, deadline - self._clock.monotonic() - _MARGIN_SECONDS))


def _not_found(binding: str) -> NotFound:
    return NotFound("BINDING_NOT_FOUND", "no such binding", binding=binding)


def _contended() -> Aborted:
    return Aborted("CONFLICT", "others keep changing the binding: repeat")
