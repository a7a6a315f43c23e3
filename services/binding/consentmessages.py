"""Consents and policies as the messages that are published and stored, and back. Pure but for the
purge bucket's key.

Refuses to let a tag or an evidence reference into the clear part. Invariant: nothing is lost on the
way there and back.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

from axbridge.binding.v1 import consent_pb2, events_pb2
from google.protobuf.duration_pb2 import Duration

from services.binding.consent import Consent, ConsentState, Parties, Policy, Withdrawal
from services.binding.messages import (
    answered_messages,
    answered_of,
    millis,
    sealed,
    timestamp,
)
from services.binding.registers import POLICY_ID, Place, Register
from services.runtime.sealing import PurgeSealer, Sealed, associated

POLICY_FIELD: Final = b"policy"


class ConsentMessages:
    """To and from registers."""

    def __init__(self, sealer: PurgeSealer) -> None:
        self._sealer = sealer

    @property
    def openers(self) -> Mapping[str, Callable[[events_pb2.StateRecord], Register]]:
        """What makes a register of each kind of state."""
        return {"consent": self.restored, "consent_policy": policy_restored}

    def register(self, consent: Consent) -> Register:
        """The consent, sealed, with its mark."""
        secrets = events_pb2.ConsentSecrets(tag=consent.tag, evidence_ref=consent.evidence_ref)
        box = self._sealer.seal(
            consent.tenant,
            datetime.fromtimestamp(consent.end_ms / 1000, UTC),
            secrets.SerializeToString(),
            _bound(consent.tenant, consent.id, consent.version),
        )
        record = events_pb2.ConsentRecord(
            fact=_fact(consent),
            secrets=sealed(box),
            state=consent_pb2.ConsentState.ValueType(consent.state),
            update_time=timestamp(consent.update_ms),
            requests=answered_messages(consent.requests),
            withdrawal=_withdrawal(consent.withdrawal),
        )
        return _consent_register(consent, events_pb2.StateRecord(consent=record))

    def restored(self, state: events_pb2.StateRecord) -> Register:
        """The register that a state is of. Raises KeyDestroyed and SealBroken."""
        return _consent_register(self.consent(state.consent), state)

    def consent(self, record: events_pb2.ConsentRecord) -> Consent:
        """The consent, opened. Raises KeyDestroyed and SealBroken."""
        fact = record.fact
        plain = self._sealer.open(
            Sealed(record.secrets.key_id, record.secrets.box),
            _bound(fact.tenant, fact.consent, fact.aggregate_version),
        )
        secrets = events_pb2.ConsentSecrets.FromString(plain)
        asked = record.withdrawal
        return Consent(
            tenant=fact.tenant,
            id=fact.consent,
            generation=fact.generation,
            tag=secrets.tag,
            terms_version=fact.terms_version,
            channel=fact.channel,
            evidence_ref=secrets.evidence_ref,
            grant_ms=millis(fact.grant_time),
            expire_ms=millis(fact.expire_time),
            update_ms=millis(record.update_time),
            requests=answered_of(record.requests),
            version=fact.aggregate_version,
            state=ConsentState(record.state),
            withdrawal=Withdrawal(
                millis(asked.request_time),
                asked.notice_version,
                asked.locale,
                millis(asked.withdraw_time),
                millis(asked.drain_until),
            )
            if record.HasField("withdrawal")
            else None,
        )


def consent_place(tenant: str, consent: str) -> Place:
    """Where a consent is kept."""
    return Place("consent", tenant, consent)


def policy_place(tenant: str) -> Place:
    """Where a tenant's policy is kept."""
    return Place("consent-policy", tenant, POLICY_ID)


def policy_register(policy: Policy) -> Register:
    """The policy with its mark; nothing in it is personal."""
    record = events_pb2.ConsentPolicyRecord(
        tenant=policy.tenant,
        policy=policy_message(policy),
        update_time=timestamp(policy.update_ms),
    )
    return _policy_register(policy, events_pb2.StateRecord(consent_policy=record))


def policy_restored(state: events_pb2.StateRecord) -> Register:
    """The register that a state is of."""
    return _policy_register(policy_of(state.consent_policy), state)


def policy_of(record: events_pb2.ConsentPolicyRecord) -> Policy:
    """The policy."""
    message = record.policy
    return Policy(
        record.tenant,
        Parties(message.parties),
        message.grace.seconds * 1000 + message.grace.nanos // 1_000_000,
        {rule.pool: Parties(rule.parties) for rule in message.pools},
        message.version,
        millis(record.update_time),
    )


def policy_message(policy: Policy) -> consent_pb2.ConsentPolicy:
    """The policy as answered, published and stored."""
    seconds, ms = divmod(policy.grace_ms, 1000)
    return consent_pb2.ConsentPolicy(
        name=f"tenants/{policy.tenant}/consentPolicy",
        parties=consent_pb2.ConsentParties.ValueType(policy.parties),
        grace=Duration(seconds=seconds, nanos=ms * 1_000_000),
        pools=[
            consent_pb2.PoolConsent(
                pool=pool, parties=consent_pb2.ConsentParties.ValueType(parties)
            )
            for pool, parties in sorted(policy.pools.items())
        ],
        version=policy.version,
    )


def _consent_register(consent: Consent, state: events_pb2.StateRecord) -> Register:
    return Register(
        consent_place(consent.tenant, consent.id),
        consent.version,
        state,
        consent.tag,
        consent.tag,
        str(consent.mark),
        consent.due_ms,
        consent.requests,
    )


def _policy_register(policy: Policy, state: events_pb2.StateRecord) -> Register:
    place = policy_place(policy.tenant)
    return Register(place, policy.version, state, b"", POLICY_FIELD, policy.mark, None, ())


def _fact(consent: Consent) -> events_pb2.ConsentFact:
    return events_pb2.ConsentFact(
        tenant=consent.tenant,
        consent=consent.id,
        aggregate_version=consent.version,
        generation=consent.generation,
        terms_version=consent.terms_version,
        channel=consent.channel,
        grant_time=timestamp(consent.grant_ms),
        expire_time=timestamp(consent.expire_ms),
    )


def _withdrawal(asked: Withdrawal | None) -> events_pb2.ConsentWithdrawal | None:
    if asked is None:
        return None
    return events_pb2.ConsentWithdrawal(
        request_time=timestamp(asked.request_ms),
        notice_version=asked.notice_version,
        locale=asked.locale,
        withdraw_time=timestamp(asked.withdraw_ms),
        drain_until=timestamp(asked.drain_ms),
    )


def _bound(tenant: str, consent: str, version: int) -> bytes:
    return associated("consent-event", tenant, consent, version)
