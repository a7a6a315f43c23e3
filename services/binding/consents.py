"""The use cases of consent, in the order of the proto's rpcs (R4 to R6).

Refuses to answer a write before Kafka has it. Invariant: once a confirmation is answered, no
binding of the person is made under what was withdrawn, and every live one comes to its end.
"""

import asyncio
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from services.binding import paging
from services.binding.consent import (
    LONGEST_MS,
    NOTICES,
    Consent,
    ConsentState,
    Notice,
    Policy,
    ended,
    not_confirmed,
)
from services.binding.domain import SHORTEST_MS, Answered, check_expiry, stale
from services.binding.ports import (
    Answer,
    Consents,
    Ids,
    Lost,
    StoredConsent,
    Swept,
    Tags,
    Taken,
)
from services.runtime.clock import Clock
from services.runtime.errors import Aborted, AlreadyExists, AxbridgeError, NotFound
from services.runtime.phone import PhoneNumber

_RACES: Final = 5
_WAIT_SECONDS: Final = 5.0
_MARGIN_SECONDS: Final = 0.1
_SHOWN: Final = 100  # bindings named in the answer to WithdrawConsent
_COUNTED: Final = 1000  # a page while counting: a millisecond of the store's time


@dataclass(frozen=True, slots=True, repr=False)
class Grant:
    """A person's consent. `expire_ms` 0: as long as may be."""

    tenant: str
    request_id: str
    person: PhoneNumber
    terms_version: str
    channel: str
    evidence_ref: str
    expire_ms: int


@dataclass(frozen=True, slots=True)
class Seen:
    """A consent and the state it is shown in."""

    consent: Consent
    state: ConsentState


class Asked(NamedTuple):
    """The answer to WithdrawConsent."""

    seen: Seen
    notice: Notice
    token: str
    total: int
    bindings: Sequence[str]
    next_token: str


Change = Callable[[StoredConsent, int], Consent | None]


class ConsentHandlers:
    """Every use case of ConsentService; `deadline` is on the clock's monotonic scale."""

    def __init__(
        self, consents: Consents, bindings: Swept, tags: Tags, ids: Ids, clock: Clock
    ) -> None:
        self._consents = consents
        self._bindings = bindings
        self._tags = tags
        self._ids = ids
        self._clock = clock

    async def grant(self, wish: Grant, deadline: float) -> Seen:
        """See GrantConsent."""
        tenant, tag = wish.tenant, self._tags.party(wish.tenant, wish.person.e164)
        body = self._tags.body(tenant, "\x1f".join((
            "grant", wish.person.e164, wish.terms_version, wish.channel, str(wish.expire_ms),
            wish.evidence_ref,
        )))  # fmt: skip
        for _ in range(_RACES):
            now = self._clock.epoch_ms()
            before = await self._consents.mark(tenant, tag)
            expire = wish.expire_ms or now + LONGEST_MS
            request = Answered(wish.request_id, body, now, 1)
            try:
                check_expiry(expire, now, SHORTEST_MS, LONGEST_MS)
                if before is not None and before.letter == "D":
                    raise _contended()  # new bindings must not be taken for those that drain
                consent = Consent(
                    tenant, self._ids.new(), before.generation + 1 if before else 1, tag,
                    wish.terms_version, wish.channel, wish.evidence_ref, now, expire, now,
                    (request,),
                )  # fmt: skip
                sequence = await self._consents.put(consent, request, before)
            except Lost:
                continue
            except Taken as twin:
                return self._seen(await self._again(tenant, twin.answer, body, deadline))
            except AxbridgeError:
                answer = await self._consents.answered(tenant, wish.request_id)
                if answer is None:
                    raise
                return self._seen(await self._again(tenant, answer, body, deadline))
            await self._consents.published(sequence, self._left(deadline))
            return self._seen(StoredConsent(consent, sequence, newest=True))
        raise _contended()

    async def get(self, tenant: str, consent: str) -> Seen:
        """See GetConsent."""
        stored = await self._stored(tenant, consent)
        await self._consents.published(stored.sequence, _WAIT_SECONDS)
        return self._seen(stored)

    async def list(
        self, tenant: str, person: PhoneNumber | None, limit: int, token: str
    ) -> tuple[Sequence[Seen], str]:
        """See ListConsents."""
        tag = self._tags.party(tenant, person.e164) if person else b""
        mark = self._tags.body(tenant, f"page\x1fconsents\x1f{tag.hex()}")[:8]
        ids = await self._consents.page(tenant, tag, paging.after(token, mark), limit + 1)
        more, ids = len(ids) > limit, ids[:limit]
        found = await asyncio.gather(*(self._consents.get(tenant, each) for each in ids))
        known = [stored for stored in found if stored is not None]  # else just forgotten
        newest = max((stored.sequence for stored in known), default=0)
        await self._consents.published(newest, _WAIT_SECONDS)
        return [self._seen(each) for each in known], paging.token(mark, ids[-1]) if more else ""

    async def withdraw(
        self, tenant: str, consent: str, request_id: str, locale: str, deadline: float
    ) -> Asked:
        """See WithdrawConsent."""
        body = self._tags.body(tenant, f"withdraw\x1f{consent}\x1f{locale}")

        def ask(stored: StoredConsent, now: int) -> Consent:
            if not stored.newest:
                raise ended(consent)
            request = Answered(request_id, body, now, 0)
            return stored.consent.asked(request, NOTICES[locale].version, locale)

        stored = await self._change(tenant, consent, request_id, body, ask, deadline)
        asked = [r.version for r in stored.consent.requests if r.request_id == request_id]
        count, behind, first = 0, "", list[str]()
        while True:
            live, behind = await self._bindings.live(tenant, stored.consent.tag, behind, _COUNTED)
            count += len(live)
            first += live[: _SHOWN - len(first)]
            if not behind:
                break
        return Asked(
            self._seen(stored),
            NOTICES[locale],
            self._confirmation(tenant, consent, asked[0] if asked else 0),
            count,
            first,
            paging.token(self._page_mark(tenant, consent), first[-1]) if count > len(first) else "",
        )

    async def confirm(
        self, tenant: str, consent: str, request_id: str, token: str, deadline: float
    ) -> Seen:
        """See ConfirmWithdrawal."""
        body = self._tags.body(tenant, f"confirm\x1f{consent}\x1f{token}")
        policy, _ = await self._consents.policy(tenant)

        def confirm(stored: StoredConsent, now: int) -> Consent | None:
            old = stored.consent
            if old.withdrawn:
                return None
            if not stored.newest:
                raise ended(consent)
            expected = self._confirmation(tenant, consent, old.version)
            if not hmac.compare_digest(expected.encode(), token.encode()):
                raise not_confirmed(consent)
            return old.confirmed(Answered(request_id, body, now, 0), policy.grace_ms)

        return self._seen(await self._change(tenant, consent, request_id, body, confirm, deadline))

    async def bindings(
        self, tenant: str, consent: str, limit: int, token: str
    ) -> tuple[Sequence[str], str]:
        """See ListConsentBindings."""
        stored = await self._stored(tenant, consent)
        mark = self._page_mark(tenant, consent)
        behind = paging.after(token, mark)
        live, behind = await self._bindings.live(tenant, stored.consent.tag, behind, limit)
        return live, paging.token(mark, behind) if behind else ""

    async def policy(self, tenant: str) -> Policy:
        """See GetConsentPolicy."""
        policy, sequence = await self._consents.policy(tenant)
        await self._consents.published(sequence, _WAIT_SECONDS)
        return policy

    async def set_policy(self, wish: Policy, deadline: float) -> Policy:
        """See SetConsentPolicy; `wish.version` is the one that the caller has seen."""
        for _ in range(_RACES):
            now = self._clock.epoch_ms()
            old, sequence = await self._consents.policy(wish.tenant)
            if old == replace(wish, version=old.version, update_ms=old.update_ms) and old.version:
                new = old
            elif wish.version != old.version:
                raise stale(old.version)
            else:
                new = replace(wish, version=old.version + 1, update_ms=now)
                try:
                    sequence = await self._consents.set_policy(new)
                except Lost:
                    continue
            await self._consents.published(sequence, self._left(deadline))
            return new
        raise _contended()

    async def _change(
        self,
        tenant: str,
        consent: str,
        request_id: str,
        body: bytes,
        make: Change,
        deadline: float,
    ) -> StoredConsent:
        """The consent after a change by compare-and-set, or as it stands where `make` leaves it."""
        for _ in range(_RACES):
            try:
                old = await self._stored(tenant, consent)
                new = make(old, self._clock.epoch_ms())
                if new is None:
                    await self._consents.published(old.sequence, self._left(deadline))
                    return old
            except AxbridgeError:  # the request may have been answered already
                answer = await self._consents.answered(tenant, request_id)
                if answer is None:
                    raise
                return await self._again(tenant, answer, body, deadline)
            try:
                sequence = await self._consents.put(new, new.requests[-1], old.consent.mark)
            except Taken as twin:
                return await self._again(tenant, twin.answer, body, deadline)
            except Lost:
                continue
            await self._consents.published(sequence, self._left(deadline))
            return StoredConsent(new, sequence, newest=True)
        raise _contended()

    async def _again(
        self, tenant: str, answer: Answer, body: bytes, deadline: float
    ) -> StoredConsent:
        """The answer to a repeated request: the consent as it stands now."""
        if answer.body_hash != body:
            raise AlreadyExists("REQUEST_ID_REUSED", "the request id came with another body")
        stored = await self._stored(tenant, answer.binding)
        await self._consents.published(stored.sequence, self._left(deadline))
        return stored

    async def _stored(self, tenant: str, consent: str) -> StoredConsent:
        stored = await self._consents.get(tenant, consent)
        if stored is None:
            raise NotFound("CONSENT_NOT_FOUND", "no such consent", consent=consent)
        return stored

    def _seen(self, stored: StoredConsent) -> Seen:
        now = self._clock.epoch_ms()
        return Seen(stored.consent, stored.consent.seen(now, newest=stored.newest))

    def _confirmation(self, tenant: str, consent: str, version: int) -> str:
        """Nothing is stored for it: only who was answered with it can know it."""
        return self._tags.body(tenant, f"confirmation\x1f{consent}\x1f{version}").hex()

    def _page_mark(self, tenant: str, consent: str) -> bytes:
        return self._tags.body(tenant, f"page\x1fconsent-bindings\x1f{consent}")[:8]

    def _left(self, deadline: float) -> float:
        return max(0.0, min(_WAIT_SECONDS, deadline - self._clock.monotonic() - _MARGIN_SECONDS))


def _contended() -> Aborted:
    return Aborted("CONFLICT", "others keep changing the consent: repeat")
