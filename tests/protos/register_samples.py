"""Samples of what came with consents and blacklists; see samples.py."""

from typing import Final

from axbridge.binding.v1 import binding_pb2 as binding_types
from axbridge.binding.v1 import blacklist_pb2 as blacklist
from axbridge.binding.v1 import consent_pb2 as consent
from axbridge.binding.v1 import events_pb2 as binding
from axbridge.type.v1 import sealed_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp


def at(seconds: int) -> Timestamp:
    return Timestamp(seconds=1_770_000_000 + seconds, nanos=123_000_000)


SECRETS = sealed_pb2.Sealed(key_id="purge/taxi/202608", box=bytes([1]) + bytes([0xE1]) * 12)
ID = "018f2c6e-0000-7000-8000-000000000002"
POOL = "tenants/taxi/pools/city"
TAG, OTHER = bytes(range(16)), bytes(range(16, 32))
REQUEST = binding.AnsweredRequest(
    request_id="3f2504e0-4f89-41d3-9a0c-0305e82c3301", body_hash=TAG, time=at(0), version=1
)
FACT = binding.ConsentFact(
    tenant="taxi",
    consent=ID,
    aggregate_version=3,
    generation=2,
    terms_version="terms-3",
    channel="app",
    grant_time=at(0),
    expire_time=at(3600),
)
WITHDRAWAL = binding.ConsentWithdrawal(
    request_time=at(1),
    notice_version="1",
    locale="zh",
    withdraw_time=at(2),
    drain_until=at(602),
)
POLICY = consent.ConsentPolicy(
    name="tenants/taxi/consentPolicy",
    parties=consent.CONSENT_PARTIES_BOTH,
    grace=Duration(seconds=600),
    pools=[consent.PoolConsent(pool=POOL, parties=consent.CONSENT_PARTIES_A)],
    version=4,
)
ENTRY = binding.BlacklistFact(
    tenant="taxi",
    entry=ID,
    aggregate_version=2,
    pool=POOL,
    kind=blacklist.BLACKLIST_KIND_PAIR,
    create_time=at(0),
    expire_time=at(3600),
)
DENIAL = binding.Denial(
    tenant="taxi",
    entry=ID,
    version=1,
    pool=POOL,
    caller_tag=TAG,
    callee_tag=OTHER,
    expire_time=at(3600),
)
CONSENTED = binding.BindingFact(
    consent_a=f"tenants/taxi/consents/{ID}",
    consent_b=f"tenants/taxi/consents/{ID}",
    drain_until=at(602),
)

REGISTER_SAMPLES: Final[dict[str, Message]] = {
    "binding.v1.BindingCreated.consents": binding.BindingCreated(fact=CONSENTED),
    "binding.v1.BindingUpdated.consents": binding.BindingUpdated(fact=CONSENTED),
    "binding.v1.BindingReleased.consents": binding.BindingReleased(
        fact=CONSENTED, reason=binding_types.RELEASE_REASON_CONSENT_WITHDRAWN
    ),
    "binding.v1.Route.drain": binding.Route(drain_until=at(602)),
    "binding.v1.StateRecord.binding.consents": binding.StateRecord(
        binding=binding.BindingRecord(
            route=binding.Route(drain_until=at(602)),
            consent_a=CONSENTED.consent_a,
            consent_b=CONSENTED.consent_b,
        )
    ),
    "binding.v1.ConsentGranted": binding.ConsentGranted(fact=FACT, secrets=SECRETS),
    "binding.v1.ConsentWithdrawalRequested": binding.ConsentWithdrawalRequested(
        fact=FACT, secrets=SECRETS, withdrawal=WITHDRAWAL
    ),
    "binding.v1.ConsentWithdrawn": binding.ConsentWithdrawn(
        fact=FACT, secrets=SECRETS, withdrawal=WITHDRAWAL
    ),
    "binding.v1.ConsentDrained": binding.ConsentDrained(
        fact=FACT, secrets=SECRETS, withdrawal=WITHDRAWAL
    ),
    "binding.v1.ConsentErased": binding.ConsentErased(
        fact=FACT, secrets=SECRETS, withdrawal=WITHDRAWAL
    ),
    "binding.v1.ConsentPolicyChanged": binding.ConsentPolicyChanged(
        tenant="taxi", aggregate_version=4, policy=POLICY
    ),
    "binding.v1.StateRecord.consent": binding.StateRecord(
        consent=binding.ConsentRecord(
            fact=FACT,
            secrets=SECRETS,
            state=consent.CONSENT_STATE_DRAINING,
            withdrawal=WITHDRAWAL,
            update_time=at(2),
            requests=[REQUEST],
        )
    ),
    "binding.v1.StateRecord.consent_policy": binding.StateRecord(
        consent_policy=binding.ConsentPolicyRecord(tenant="taxi", policy=POLICY, update_time=at(5))
    ),
    "binding.v1.BlacklistEntryAdded": binding.BlacklistEntryAdded(fact=ENTRY, secrets=SECRETS),
    "binding.v1.BlacklistEntryRemoved": binding.BlacklistEntryRemoved(
        fact=ENTRY,
        secrets=SECRETS,
        state=blacklist.BLACKLIST_ENTRY_STATE_EXPIRED,
        end_time=at(3600),
    ),
    "binding.v1.Denial": DENIAL,
    "binding.v1.StateRecord.blacklist_entry": binding.StateRecord(
        blacklist_entry=binding.BlacklistRecord(
            fact=ENTRY,
            secrets=SECRETS,
            state=blacklist.BLACKLIST_ENTRY_STATE_REMOVED,
            end_time=at(60),
            requests=[REQUEST],
            denial=DENIAL,
        )
    ),
    "binding.v1.ConsentSecrets": binding.ConsentSecrets(tag=TAG, evidence_ref="proof/4711"),
    "binding.v1.BlacklistSecrets": binding.BlacklistSecrets(caller_tag=TAG, callee_tag=OTHER),
}
