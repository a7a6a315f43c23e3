"""Consents and policies in a cell; implements ports.Consents.

Refuses to show a consent whose person or purge bucket is erased: it is as if forgotten. Invariant:
a consent and the mark that creates are judged by change together.
"""

from collections.abc import Sequence
from typing import Final

from services.binding.consent import Consent, ConsentState, Mark, Policy
from services.binding.consentmessages import (
    ConsentMessages,
    consent_place,
    policy_of,
    policy_place,
    policy_register,
)
from services.binding.domain import Answered
from services.binding.ports import Answer, Lost, StoredConsent
from services.binding.registerstore import CellRegisters
from services.runtime.keyring import KeyDestroyed

_PAGE: Final = 500


class CellConsents:
    """The consents of one cell."""

    def __init__(self, registers: CellRegisters, messages: ConsentMessages) -> None:
        self._registers = registers
        self._messages = messages

    async def answered(self, tenant: str, request_id: str) -> Answer | None:
        """See ports.Consents."""
        return await self._registers.answered(tenant, request_id)

    async def mark(self, tenant: str, tag: bytes) -> Mark | None:
        """See ports.Consents."""
        text = await self._registers.mark("consent", tenant, tag)
        return Mark.parse(text) if text else None

    async def put(self, consent: Consent, request: Answered | None, before: Mark | None) -> int:
        """See ports.Consents."""
        register = self._messages.register(consent)
        mark = str(before) if before else ""
        return await self._registers.put(register, consent.version - 1, request, mark)

    async def get(self, tenant: str, consent: str) -> StoredConsent | None:
        """See ports.Consents."""
        raw = await self._registers.get(consent_place(tenant, consent))
        if raw is None:
            return None
        try:
            opened = self._messages.consent(raw.state.consent)
        except KeyDestroyed:
            return None
        if opened.state is ConsentState.ERASED:
            return None
        newest = bool(raw.mark) and Mark.parse(raw.mark).consent == consent
        return StoredConsent(opened, raw.sequence, newest)

    async def erase(
        self, tenant: str, tag: bytes, until_ms: int, now: int
    ) -> tuple[Sequence[str], int]:
        """Erases every consent that a person gave up to a moment: their ids, and when the last of
        them would have ended, since what was sealed of it before is kept by that. May be repeated.

        Raises:
            DataLoss: one cannot be read, and so not be said to be erased.
        """
        found, last, after = list[str](), 0, ""
        while True:
            ids = await self.page(tenant, tag, after, _PAGE)
            for each in ids:
                end = await self._erase(tenant, each, until_ms, now)
                found += [each] if end else []
                last = max(last, end)
            if len(ids) < _PAGE:
                return found, last
            after = ids[-1]

    async def _erase(self, tenant: str, consent: str, until_ms: int, now: int) -> int:
        """The consent's end; 0: it is not there, or was given later."""
        while True:
            raw = await self._registers.get(consent_place(tenant, consent))
            if raw is None:
                return 0
            try:
                old = self._messages.consent(raw.state.consent)
            except KeyDestroyed:
                return 0
            if old.grant_ms > until_ms:
                return 0
            if old.state is not ConsentState.ERASED:
                try:
                    new = self._messages.register(old.erased(now))
                    await self._registers.put(new, old.version, None)
                except Lost:  # withdrawn or drained meanwhile: look again
                    continue
            return max(old.expire_ms, old.end_ms)

    async def page(self, tenant: str, tag: bytes, after: str, limit: int) -> Sequence[str]:
        """See ports.Consents."""
        return await self._registers.page("consent", tenant, tag, after, limit)

    async def policy(self, tenant: str) -> tuple[Policy, int]:
        """See ports.Consents."""
        raw = await self._registers.get(policy_place(tenant))
        if raw is None:
            return Policy(tenant), 0
        return policy_of(raw.state.consent_policy), raw.sequence

    async def set_policy(self, policy: Policy) -> int:
        """See ports.Consents."""
        return await self._registers.put(policy_register(policy), policy.version - 1, None)

    async def published(self, sequence: int, seconds: float) -> None:
        """See ports.Consents."""
        await self._registers.published(sequence, seconds)
