"""ports.Consents in memory, beside a MemoryBindings that is judged by it."""

from collections.abc import Sequence

from services.binding.consent import Consent, Mark, Policy
from services.binding.domain import Answered
from services.binding.ports import Answer, Lost, StoredConsent, Taken
from tests.unit.binding.memory import DAY_MS, TENANT, MemoryBindings


class MemoryConsents:
    """Dictionaries that behave."""

    def __init__(self, bindings: MemoryBindings) -> None:
        self.bindings = bindings
        self.rows: dict[str, Consent] = {}
        self.requests = bindings.requests
        self.waited: list[int] = []
        self._sequence = 0

    async def answered(self, tenant: str, request_id: str) -> Answer | None:
        return self.requests.get((tenant, request_id))

    async def mark(self, tenant: str, tag: bytes) -> Mark | None:
        return self.bindings.marks.get((tenant, tag))

    async def put(self, consent: Consent, request: Answered | None, before: Mark | None) -> int:
        known = request and self.requests.get((consent.tenant, request.request_id))
        if known:
            raise Taken(known)
        old, person = self.rows.get(consent.id), (consent.tenant, consent.tag)
        if (old.version if old else 0) != consent.version - 1:
            raise Lost
        if self.bindings.marks.get(person) != before:
            raise Lost
        self.rows[consent.id], self.bindings.marks[person] = consent, consent.mark
        if request:
            answer = Answer(request.body_hash, consent.id)
            self.requests[consent.tenant, request.request_id] = answer
        self._sequence += 1
        return self._sequence

    async def get(self, tenant: str, consent: str) -> StoredConsent | None:
        row = self.rows.get(consent)
        if row is None or row.tenant != tenant:
            return None
        mark = self.bindings.marks[tenant, row.tag]
        return StoredConsent(row, self._sequence, mark.consent == consent)

    async def page(self, tenant: str, tag: bytes, after: str, limit: int) -> Sequence[str]:
        return [
            identity
            for identity, row in sorted(self.rows.items())
            if row.tenant == tenant and (not tag or row.tag == tag) and identity > after
        ][:limit]

    async def policy(self, tenant: str) -> tuple[Policy, int]:
        return self.bindings.policies.get(tenant, Policy(tenant)), self._sequence

    async def set_policy(self, policy: Policy) -> int:
        if (await self.policy(policy.tenant))[0].version != policy.version - 1:
            raise Lost
        self.bindings.policies[policy.tenant] = policy
        self._sequence += 1
        return self._sequence

    async def published(self, sequence: int, seconds: float) -> None:
        self.waited.append(sequence)


def consent(now: int, identity: str, tag: bytes = b"a" * 16, generation: int = 1) -> Consent:
    """A consent that is in force for a year, with a request of its own."""
    request = Answered(f"request-{identity}", b"h" * 16, now, 1)
    return Consent(
        TENANT, identity, generation, tag, "terms-3", "app", "proof/4711", now,
        now + 365 * DAY_MS, now, (request,),
    )  # fmt: skip
