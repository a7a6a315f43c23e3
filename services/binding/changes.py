"""The use cases that change a binding, in the order of the proto's rpcs.

Refuses to answer before Kafka has it. Invariant: a change is made from the version that was read,
and whatever a caller repeats under one request id, one change comes of it.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

from services.binding import modes
from services.binding.answers import Answers, Applied
from services.binding.commands import Name, Release, Update, Upgrade
from services.binding.domain import SHORTEST_MS, Answered, Binding, Reason, stale
from services.binding.ports import Bindings, ConsentsChanged, Lost, Tags, Taken
from services.runtime.clock import Clock
from services.runtime.errors import Aborted, AxbridgeError
from services.runtime.phone import PhoneNumber

_RACES: Final = 5


class Changes:
    """`deadline` is on the clock's monotonic scale."""

    def __init__(
        self, bindings: Bindings, tags: Tags, clock: Clock, shortest_ms: int = SHORTEST_MS
    ) -> None:
        self._bindings = bindings
        self._tags = tags
        self._clock = clock
        self._shortest_ms = shortest_ms
        self._answers = Answers(bindings, clock)

    async def apply(self, command: Update | Release) -> Applied:
        """Does what is asked; Kafka may not have it yet: see `Answers.told`."""
        if isinstance(command, Update):
            return await self._update(command)
        return await self._release(command)

    async def update(self, wish: Update, deadline: float) -> Binding:
        """Moves the expiry, compare-and-set by version. See UpdateBinding."""
        return await self._answers.told(await self._update(wish), deadline)

    async def _update(self, wish: Update) -> Applied:
        async def moved(old: Binding, request: Answered) -> Binding:
            return old.updated(wish.version, wish.expire_ms, request, self._shortest_ms)

        return await self._asked(wish, moved)

    async def renew(self, tenant: str, binding: str, call_ms: int, deadline: float) -> Binding:
        """Moves the end behind a call, where that is later. See RenewBinding."""
        for _ in range(_RACES):
            old = await self._answers.stored(tenant, binding)
            new = old.binding.renewed(call_ms, self._clock.epoch_ms())
            sequence = old.sequence
            try:
                if new is not old.binding:
                    sequence = await self._bindings.change(old, new)
            except Lost:
                continue
            return await self._answers.told(Applied(new, sequence), deadline)
        raise _contended()

    async def name(self, wish: Name, deadline: float) -> Binding:
        """Names the temporary callee, or nobody any more. See SetTemporaryCallee."""
        tag = self._tags.party(wish.tenant, wish.callee.e164) if wish.callee else b""

        async def named(old: Binding, request: Answered) -> Binding:
            return modes.named(old, tag, request)

        return await self._answers.told(await self._asked(wish, named, wish.callee), deadline)

    async def upgrade(self, wish: Upgrade, deadline: float) -> Binding:
        """Makes AX an AXB. See UpgradeBinding."""
        tag = self._tags.party(wish.tenant, wish.b.e164)

        async def upgraded(old: Binding, request: Answered) -> Binding:
            new = modes.upgraded(old, wish.version, tag, request)
            consents = await self._bindings.consented(
                wish.tenant, new.terms.pool, (new.tag_a, new.tag_b)
            )
            return replace(new, consent_a=consents[0], consent_b=consents[1])

        return await self._answers.told(await self._asked(wish, upgraded, wish.b), deadline)

    async def release(self, tenant: str, binding: str, version: int, deadline: float) -> Binding:
        """Ends the binding, or answers the ended one. See ReleaseBinding."""
        applied = await self._release(Release(tenant, binding, version))
        return await self._answers.told(applied, deadline)

    async def _release(self, wish: Release) -> Applied:
        for _ in range(_RACES):
            old = await self._answers.stored(wish.tenant, wish.binding)
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

    async def _asked(
        self,
        wish: Update | Name | Upgrade,
        make: Callable[[Binding, Answered], Awaitable[Binding]],
        b: PhoneNumber | None = None,
    ) -> Applied:
        """The binding as the request makes it; `b`: a real number that it brings."""
        body = self._tags.body(wish.tenant, wish.canonical())
        for _ in range(_RACES):
            request = Answered(wish.request_id, body, self._clock.epoch_ms(), 0)
            try:
                old = await self._answers.stored(wish.tenant, wish.binding)
                new = await make(old.binding, request)
            except AxbridgeError as why:
                # The request may have been answered already, also between two reads of ours, by
                # a twin that the caller gave up on: so it is asked for after what refuses it.
                return await self._answers.instead(why, wish.tenant, wish.request_id, body)
            try:
                return Applied(new, await self._bindings.change(old, new, b))
            except Taken as twin:
                return await self._answers.again(twin.answer, body)
            except (Lost, ConsentsChanged):
                continue  # read again: it says whether it is stale or has ended
        raise _contended()


def _contended() -> Aborted:
    return Aborted("CONFLICT", "others keep changing the binding: repeat")
