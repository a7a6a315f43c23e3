"""ConsentService's protos to the domain and back. Pure and total: any message gives a value or
InvalidArgument.

Refuses to repeat in an error what a request held. Invariant: what leaves here as a resource holds
no real number and no tag.
"""

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from axbridge.binding.v1 import consent_pb2, consent_service_pb2
from google.protobuf.duration_pb2 import Duration

from services.binding.consent import (
    DEFAULT_LOCALE,
    GRACE_MS,
    LONGEST_GRACE_MS,
    NOTICES,
    Parties,
    Policy,
)
from services.binding.consents import Asked, Grant, Seen
from services.binding.fields import (
    CODE,
    SEGMENT,
    TENANT,
    UUID,
    expiry,
    invalid,
    matched,
    page_size,
    pool_of,
    text,
)
from services.binding.messages import consent_name, timestamp
from services.runtime.ids import request_id
from services.runtime.phone import PhoneNumber, parse_party

_NAME: Final = re.compile(rf"tenants/({SEGMENT})/consents/({UUID})", re.ASCII)
_POLICY: Final = re.compile(rf"tenants/({SEGMENT})/consentPolicy", re.ASCII)
_LONGEST_REF: Final = 256
_MOST_POOLS: Final = 100
_TOKEN: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
_PARTIES: Final = {each.value: each for each in Parties}


class Listing(NamedTuple):
    """A page of consents. `person` None: of all."""

    tenant: str
    person: PhoneNumber | None
    limit: int
    token: str


def grant(request: consent_service_pb2.GrantConsentRequest) -> Grant:
    """Raises InvalidArgument: REQUEST_ID_INVALID, PARTY_NUMBER_…, EXPIRY_PAST, INVALID_FIELD."""
    given = request.HasField("expire_time")
    return Grant(
        tenant=matched(TENANT, request.parent, "parent")[1],
        request_id=request_id(request.request_id),
        person=parse_party(request.person.e164, "person"),
        terms_version=matched(CODE, request.terms_version, "terms_version")[0],
        channel=matched(CODE, request.channel, "channel")[0],
        evidence_ref=text(request.evidence_ref, _LONGEST_REF, "evidence_ref"),
        expire_ms=expiry(given, request.expire_time) if given else 0,
    )


def listing(request: consent_service_pb2.ListConsentsRequest) -> Listing:
    """Raises InvalidArgument: PARTY_NUMBER_…, INVALID_FIELD."""
    tenant = matched(TENANT, request.parent, "parent")[1]
    person = parse_party(request.person.e164, "person") if request.HasField("person") else None
    return Listing(tenant, person, page_size(request.page_size), request.page_token)


def withdraw(
    request: consent_service_pb2.WithdrawConsentRequest,
) -> tuple[str, str, str, str]:
    """Tenant, consent, request id and locale. Raises REQUEST_ID_INVALID, INVALID_FIELD."""
    locale = request.locale or DEFAULT_LOCALE
    if locale not in NOTICES:
        invalid("locale")
    return *name(request.name), request_id(request.request_id), locale


def confirm(
    request: consent_service_pb2.ConfirmWithdrawalRequest,
) -> tuple[str, str, str, str]:
    """Tenant, consent, request id and token. Raises REQUEST_ID_INVALID, INVALID_FIELD."""
    token = matched(_TOKEN, request.confirmation_token, "confirmation_token")[0]
    return *name(request.name), request_id(request.request_id), token


def bindings(
    request: consent_service_pb2.ListConsentBindingsRequest,
) -> tuple[str, str, int, str]:
    """Tenant, consent, page size and token. Raises INVALID_FIELD."""
    found = matched(_NAME, request.parent, "parent")
    return found[1], found[2], page_size(request.page_size), request.page_token


def name(full: str) -> tuple[str, str]:
    """Tenant and consent id of a resource name. Raises InvalidArgument: INVALID_FIELD."""
    found = matched(_NAME, full, "name")
    return found[1], found[2]


def policy_name(full: str) -> str:
    """The tenant of a policy's name. Raises InvalidArgument: INVALID_FIELD."""
    return matched(_POLICY, full, "name")[1]


def policy(request: consent_service_pb2.SetConsentPolicyRequest) -> Policy:
    """The policy wished for, at the version seen. Raises InvalidArgument: INVALID_FIELD."""
    wish = request.policy
    tenant = matched(_POLICY, wish.name, "policy.name")[1]
    rules = {
        pool_of(tenant, rule.pool): _parties(rule.parties, "policy.pools") for rule in wish.pools
    }
    if len(rules) != len(wish.pools) or len(rules) > _MOST_POOLS:
        invalid("policy.pools")
    if wish.version < 0:
        invalid("policy.version")
    grace = _grace(wish.grace) if wish.HasField("grace") else GRACE_MS
    return Policy(tenant, _parties(wish.parties, "policy.parties"), grace, rules, wish.version)


def resource(seen: Seen) -> consent_pb2.Consent:
    """The consent as answered."""
    consent, asked = seen.consent, seen.consent.withdrawal
    return consent_pb2.Consent(
        name=consent_name(consent.tenant, consent.id),
        state=consent_pb2.ConsentState.ValueType(seen.state),
        terms_version=consent.terms_version,
        channel=consent.channel,
        evidence_ref=consent.evidence_ref,
        grant_time=timestamp(consent.grant_ms),
        expire_time=timestamp(consent.expire_ms),
        version=consent.version,
        withdraw_request_time=timestamp(asked.request_ms) if asked else None,
        withdraw_time=timestamp(asked.withdraw_ms) if asked else None,
        drain_until=timestamp(asked.drain_ms) if asked else None,
        notice_version=asked.notice_version if asked else "",
    )


def asked_response(asked: Asked) -> consent_service_pb2.WithdrawConsentResponse:
    """The answer to WithdrawConsent."""
    tenant, notice = asked.seen.consent.tenant, asked.notice
    return consent_service_pb2.WithdrawConsentResponse(
        consent=resource(asked.seen),
        notice=consent_pb2.RiskNotice(
            version=notice.version, locale=notice.locale, text=notice.text
        ),
        confirmation_token=asked.token,
        binding_count=asked.total,
        bindings=binding_names(tenant, asked.bindings),
        next_page_token=asked.next_token,
    )


def binding_names(tenant: str, ids: Iterable[str]) -> list[str]:
    """Resource names of bindings."""
    return [f"tenants/{tenant}/bindings/{each}" for each in ids]


def _parties(value: int, field: str) -> Parties:
    parties = _PARTIES.get(value)
    if parties is None:
        invalid(field)
    return parties


def _grace(span: Duration) -> int:
    ms, rest = divmod(span.nanos, 1_000_000)
    total = span.seconds * 1000 + ms
    if rest or span.nanos < 0 or not 0 <= total <= LONGEST_GRACE_MS:
        invalid("policy.grace")
    return total
