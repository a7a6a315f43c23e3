"""Any message is a value or INVALID_ARGUMENT; nothing of a request is repeated in an error."""

import contextlib
from typing import Any

import pytest
from axbridge.binding.v1 import consent_pb2, consent_service_pb2
from axbridge.type.v1.phone_number_pb2 import PhoneNumber as PhoneMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from services.binding import consenttranslate as translate
from services.binding.consent import GRACE_MS, NOTICES, ConsentState, Parties, Policy
from services.binding.consents import Asked, Seen
from services.binding.domain import Answered
from services.runtime.errors import InvalidArgument
from tests.unit.binding.memory_consents import consent

ID = "018f2c6e-0000-7000-8000-000000000001"
NAME = f"tenants/didi/consents/{ID}"
REQUEST = "7d9c3d0e-6f0a-4b57-9d0c-6f6a4f3b2a10"
NOW = 1_800_000_000_000
_NONE = consent_pb2.CONSENT_PARTIES_NONE


def grant(**changes: Any) -> Any:
    given: dict[str, Any] = {
        "parent": "tenants/didi", "request_id": REQUEST, "person": PhoneMessage(e164="13512345678"),
        "terms_version": "terms-3", "channel": "app", "evidence_ref": "凭证/4711",
    } | changes  # fmt: skip
    return translate.grant(consent_service_pb2.GrantConsentRequest(**given))


def test_a_grant_is_what_was_asked() -> None:
    wish = grant()
    assert (wish.tenant, wish.person.e164, wish.expire_ms) == ("didi", "+8613512345678", 0)
    assert (wish.terms_version, wish.channel) == ("terms-3", "app")


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"parent": "x"}, "parent"), ({"terms_version": ""}, "terms_version"),
     ({"channel": "a b"}, "channel"), ({"evidence_ref": ""}, "evidence_ref"),
     ({"evidence_ref": "x" * 257}, "evidence_ref"), ({"person": None}, "person")],
)  # fmt: skip
def test_bad_fields_are_named(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        grant(**changes)
    assert refusal.value.metadata == {"field": field}


def policy(**changes: Any) -> Policy:
    rule = consent_pb2.PoolConsent(
        pool="tenants/didi/pools/x", parties=consent_pb2.CONSENT_PARTIES_A
    )
    given: dict[str, Any] = {
        "name": "tenants/didi/consentPolicy", "parties": consent_pb2.CONSENT_PARTIES_BOTH,
        "grace": Duration(seconds=5), "pools": [rule], "version": 3,
    } | changes  # fmt: skip
    message = consent_pb2.ConsentPolicy(**given)
    return translate.policy(consent_service_pb2.SetConsentPolicyRequest(policy=message))


def test_a_policy_is_what_was_asked() -> None:
    rules = {"tenants/didi/pools/x": Parties.A}
    assert policy() == Policy("didi", Parties.BOTH, 5000, rules, 3)
    assert policy(grace=None).grace_ms == GRACE_MS
    assert policy(grace=Duration()).grace_ms == 0


@pytest.mark.parametrize(
    "changes",
    [{"name": "tenants/didi"}, {"parties": 0}, {"parties": 9}, {"version": -1},
     {"grace": Duration(seconds=-1)}, {"grace": Duration(nanos=1)},
     {"grace": Duration(seconds=7 * 86400, nanos=1_000_000)},
     {"pools": [consent_pb2.PoolConsent(pool="tenants/other/pools/x", parties=_NONE)]},
     {"pools": [consent_pb2.PoolConsent(pool="tenants/didi/pools/x", parties=_NONE)] * 2},
     {"pools": [consent_pb2.PoolConsent(pool="tenants/didi/pools/x")]},
     {"pools": [consent_pb2.PoolConsent(pool=f"tenants/didi/pools/x{n}", parties=_NONE)
                for n in range(101)]}],
)  # fmt: skip
def test_a_bad_policy_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        policy(**changes)


def test_withdrawals_and_lists_are_what_was_asked() -> None:
    pb = consent_service_pb2
    assert translate.withdraw(pb.WithdrawConsentRequest(name=NAME, request_id=REQUEST)) == (
        "didi", ID, REQUEST, "zh",
    )  # fmt: skip
    with pytest.raises(InvalidArgument):
        translate.withdraw(pb.WithdrawConsentRequest(name=NAME, request_id=REQUEST, locale="fr"))
    token = "0123456789abcdef" * 2
    assert translate.confirm(
        pb.ConfirmWithdrawalRequest(name=NAME, request_id=REQUEST, confirmation_token=token)
    ) == ("didi", ID, REQUEST, token)
    with pytest.raises(InvalidArgument):
        translate.confirm(pb.ConfirmWithdrawalRequest(name=NAME, request_id=REQUEST))
    assert translate.bindings(pb.ListConsentBindingsRequest(parent=NAME, page_size=7)) == (
        "didi", ID, 7, "",
    )  # fmt: skip
    assert translate.listing(pb.ListConsentsRequest(parent="tenants/didi")) == (
        "didi", None, 100, "",
    )  # fmt: skip
    assert translate.policy_name("tenants/didi/consentPolicy") == "didi"


def test_an_answer_shows_neither_person_nor_tag() -> None:
    made = consent(NOW, ID)
    asked = made.asked(Answered("r", b"h" * 16, NOW, 0), "1", "zh")
    gone = asked.confirmed(Answered("s", b"h" * 16, NOW, 0), 5000)
    shown = translate.resource(Seen(gone, ConsentState.DRAINING))
    assert (shown.name, shown.state, shown.version) == (NAME, 3, 3)
    assert shown.drain_until.seconds == NOW // 1000 + 5
    assert shown.notice_version == "1"
    assert made.tag not in shown.SerializeToString()
    answer = translate.asked_response(
        Asked(Seen(asked, ConsentState.WITHDRAWAL_REQUESTED), NOTICES["zh"], "t", 2, ["b1"], "n")
    )
    assert list(answer.bindings) == ["tenants/didi/bindings/b1"]
    assert (answer.binding_count, answer.notice.locale) == (2, "zh")


@given(st.binary(max_size=200))
def test_any_octets_are_a_value_or_refused(octets: bytes) -> None:
    pb = consent_service_pb2
    for kind, parse in (
        (pb.GrantConsentRequest, translate.grant),
        (pb.ListConsentsRequest, translate.listing),
        (pb.WithdrawConsentRequest, translate.withdraw),
        (pb.ConfirmWithdrawalRequest, translate.confirm),
        (pb.SetConsentPolicyRequest, translate.policy),
    ):
        message: Any = kind()
        with contextlib.suppress(DecodeError, InvalidArgument):
            message.MergeFromString(octets)
            parse(message)
