"""Any message is a value or INVALID_ARGUMENT; nothing of a request is repeated in an error."""

import contextlib
from typing import Any

import pytest
from axbridge.binding.v1 import blacklist_pb2, blacklist_service_pb2
from axbridge.type.v1.phone_number_pb2 import PhoneNumber as PhoneMessage
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from services.binding import blacklisttranslate as translate
from services.binding.blacklist import EntryState, Target
from services.binding.blacklists import Add, Seen
from services.runtime.errors import InvalidArgument
from tests.unit.binding.memory_blacklist import entry

pb = blacklist_service_pb2
ID = "018f2c6e-0000-7000-8000-000000000001"
NAME = f"tenants/didi/blacklistEntries/{ID}"
REQUEST = "7d9c3d0e-6f0a-4b57-9d0c-6f6a4f3b2a10"
NOW = 1_800_000_000_000
A, B = PhoneMessage(e164="13512345678"), PhoneMessage(e164="13612345678")


def add(**changes: Any) -> Add:
    given: dict[str, Any] = {
        "parent": "tenants/didi", "request_id": REQUEST, "number": A,
        "expire_time": Timestamp(seconds=1_900_000_000),
    } | changes  # fmt: skip
    return translate.add(pb.AddBlacklistEntryRequest(**given))


def test_a_wish_is_what_was_asked() -> None:
    wish = add(pool="tenants/didi/pools/x")
    assert (wish.caller.e164, wish.callee) == ("+8613512345678", None)
    assert (wish.tenant, wish.pool) == ("didi", "tenants/didi/pools/x")
    assert wish.expire_ms == 1_900_000_000_000
    wish = add(number=None, pair=pb.NumberPair(caller=B, callee=A))
    assert wish.callee is not None
    assert (wish.caller.e164, wish.callee.e164) == ("+8613612345678", "+8613512345678")


@pytest.mark.parametrize(
    ("changes", "reason", "field"),
    [({"parent": "x"}, "INVALID_FIELD", "parent"),
     ({"number": None}, "INVALID_FIELD", "target"),
     ({"number": PhoneMessage(e164="12")}, "PARTY_NUMBER_INVALID", "number"),
     ({"pair": pb.NumberPair(caller=A)}, "PARTY_NUMBER_INVALID", "pair.callee"),
     ({"pool": "tenants/other/pools/x"}, "INVALID_FIELD", "pool"),
     ({"expire_time": None}, "INVALID_FIELD", "expire_time"),
     ({"request_id": "1"}, "REQUEST_ID_INVALID", None),
     ({"pair": pb.NumberPair(caller=A, callee=A)}, "PARTIES_EQUAL", None)],
)  # fmt: skip
def test_bad_fields_are_named(changes: dict[str, Any], reason: str, field: str | None) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        add(**({"number": None} | changes if "pair" in changes else changes))
    assert refusal.value.reason == reason
    if field:
        assert refusal.value.metadata == {"field": field}
    assert "135" not in str(refusal.value)


def test_a_list_is_of_all_or_of_one_number() -> None:
    wish = translate.listing(pb.ListBlacklistEntriesRequest(parent="tenants/didi"))
    assert wish == ("didi", None, 100, "")
    of_one = pb.ListBlacklistEntriesRequest(parent="tenants/didi", number=A, page_size=7)
    found = translate.listing(of_one)
    assert found.number is not None
    assert (found.number.e164, found.limit) == ("+8613512345678", 7)


def test_names_are_read_as_rendered() -> None:
    assert translate.name(NAME) == ("didi", ID)
    with pytest.raises(InvalidArgument):
        translate.name(NAME + "/x")
    made = entry(NOW, ID, Target(b"a" * 16, b"b" * 16, "tenants/didi/pools/x"))
    shown = translate.resource(Seen(made, EntryState.EXPIRED))
    assert (shown.name, shown.version) == (NAME, 1)
    assert shown.kind == blacklist_pb2.BLACKLIST_KIND_PAIR
    assert shown.state == blacklist_pb2.BLACKLIST_ENTRY_STATE_EXPIRED
    assert (shown.pool, shown.expire_time.ToMilliseconds()) == (made.target.pool, made.expire_ms)
    assert not shown.HasField("end_time")
    assert b"a" * 16 not in shown.SerializeToString()


@given(st.binary(max_size=60))
def test_any_octets_are_a_wish_or_a_refusal(raw: bytes) -> None:
    with contextlib.suppress(InvalidArgument, DecodeError):
        translate.add(pb.AddBlacklistEntryRequest.FromString(raw))
    with contextlib.suppress(InvalidArgument, DecodeError):
        translate.listing(pb.ListBlacklistEntriesRequest.FromString(raw))
