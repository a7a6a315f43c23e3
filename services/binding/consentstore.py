"""Consents and policies in a cell; implements ports.Consents.

Refuses to show a consent whose purge bucket is erased: it is as if forgotten. Invariant: a consent
and the mark that creates are judged by change together.
"""

from collections.abc import Sequence

from services.binding.consent import Consent, Mark, Policy
from services.binding.consentmessages import (
    ConsentMessages,
    consent_place,
    policy_of,
    policy_place,
    policy_register,
)
from services.binding.domain import Answered
from services.binding.ports import Answer, StoredConsent
from services.binding.registerstore import CellRegisters
from services.runtime.keyring import KeyDestroyed


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
        newest = bool(raw.mark) and Mark.parse(raw.mark).consent == consent
        return StoredConsent(opened, raw.sequence, newest)

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
