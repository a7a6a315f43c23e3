"""Requests to domain values, and domain values to answers: total, or refused by name."""

import base64
import uuid
from typing import Any

import pytest
from axbridge.allocator.v1 import allocator_service_pb2 as pb
from axbridge.allocator.v1 import number_pb2
from google.protobuf.duration_pb2 import Duration
from google.rpc import code_pb2, error_details_pb2

from services.allocator import messages, translate
from services.allocator.domain import (
    Lease,
    Leased,
    Policy,
    Pool,
    PoolId,
    Refusal,
    Refused,
    State,
)
from services.runtime.errors import InvalidArgument
from services.runtime.selection import Selection

POOL = PoolId("didi", "city")
NUMBER = "700100000010001"


def test_defaults_and_ranges_of_a_lease() -> None:
    request = pb.LeaseNumbersRequest(parent=POOL.name, items=[pb.LeaseItem()])
    assert translate.wishes_in(request)[2] == 30_000
    for seconds, good in ((0, False), (1, True), (600, True), (601, False), (-5, False)):
        request.duration.CopyFrom(Duration(seconds=seconds))
        if good:
            assert translate.wishes_in(request)[2] == seconds * 1000
        else:
            with pytest.raises(InvalidArgument, match="duration"):
                translate.wishes_in(request)
    del request.items[:]
    request.items.extend([pb.LeaseItem()] * 201)
    with pytest.raises(InvalidArgument, match="items"):
        translate.wishes_in(request)


def test_a_missing_number_is_an_error_of_its_item() -> None:
    pool = Pool(POOL, Policy.SHARED, 1500, 0)
    leased = Leased(pool, (Lease(NUMBER, 5, 1_234), Refusal(Refused.EXHAUSTED)))
    first, second = translate.leased_out(leased).results
    assert (first.lease.epoch, first.lease.expire_time.ToMilliseconds()) == (5, 1_234)
    assert first.lease.cooling.ToMilliseconds() == 1500
    info = error_details_pb2.ErrorInfo()
    assert second.error.details[0].Unpack(info)
    assert (info.reason, dict(info.metadata)) == ("POOL_EXHAUSTED", {"pool": POOL.name})


def test_what_a_refusal_says() -> None:
    pool = Pool(POOL, Policy.EXCLUSIVE, 1500, 0, 9000)
    named, areas = Selection(number=NUMBER), Selection(areas=("440300", "440000"), strict=True)
    for refusal, code, told in (
        (Refusal(Refused.AREA, "", areas), "RESOURCE_EXHAUSTED", {"areas": "440300,440000"}),
        (
            Refusal(Refused.UNAVAILABLE, "LOCKED", named),
            "FAILED_PRECONDITION",
            {"number": NUMBER, "why": "LOCKED"},
        ),
        (Refusal(Refused.UNKNOWN, "", named), "NOT_FOUND", {"number": NUMBER}),
        (Refusal(Refused.FOREIGN, "", named), "PERMISSION_DENIED", {"number": NUMBER}),
    ):
        (result,) = translate.results_out(Leased(pool, (refusal,)))
        info = error_details_pb2.ErrorInfo()
        assert result.error.details[0].Unpack(info)
        assert code_pb2.Code.Name(result.error.code) == code
        assert info.reason == refusal.reason.value
        assert dict(info.metadata) == {"pool": POOL.name, **told}
    (result,) = translate.results_out(Leased(pool, (Lease(NUMBER, 1, 2, True),)))
    assert (result.lease.cooling.ToMilliseconds(), result.lease.sticky) == (1500, True)
    assert result.lease.pair_cooling.ToMilliseconds() == 9000


def test_a_pair_rests_as_long_as_its_number_at_least() -> None:
    message = number_pb2.Pool(name=POOL.name, policy=number_pb2.POOL_POLICY_EXCLUSIVE)
    message.cooling.seconds, message.pair_cooling.seconds = 60, 59
    with pytest.raises(InvalidArgument, match="pair_cooling"):
        translate.pool_in(message, 1)
    message.pair_cooling.seconds = 60
    assert translate.pool_in(message, 1).pair_cooling_ms == 60_000
    message.ClearField("pair_cooling")
    assert translate.pool_in(message, 1).pair_cooling_ms == 0
    message.policy = number_pb2.POOL_POLICY_SHARED
    assert translate.pool_in(message, 1).pair_cooling_ms == 60_000


def test_imports() -> None:
    def request(**given: Any) -> pb.ImportNumbersRequest:
        fields = {"number": NUMBER, "import_id": str(uuid.UUID(int=1, version=4))}
        item = pb.ImportItem(**{**fields, "expire_time": messages.timestamp(160_000), **given})
        return pb.ImportNumbersRequest(parent=POOL.name, items=[item])

    pool, (found,) = translate.imports_in(request(party_tags=[b"a" * 16]), 100_000)
    assert (pool, found.number, found.until_ms, found.tags) == (
        POOL, NUMBER, 160_000, (b"a" * 16,),
    )  # fmt: skip
    for bad in (
        {"number": "13812345678"},
        {"import_id": "x"},
        {"import_id": str(uuid.UUID(int=1, version=1))},
        {"import_id": str(uuid.UUID(int=1, version=4)).replace("-", "")},
        {"party_tags": [b"short"]},
        {"party_tags": [b"a" * 16] * 3},
        {"expire_time": messages.timestamp(159_999)},
        {"expire_time": messages.timestamp(31 * 86_400_000 + 100_000)},
    ):
        with pytest.raises(InvalidArgument):
            translate.imports_in(request(**bad), 100_000)
    with pytest.raises(InvalidArgument, match="items"):
        translate.imports_in(pb.ImportNumbersRequest(parent=POOL.name), 1)


def test_a_page_token_belongs_to_its_list() -> None:
    token = translate.page_token("numbers", NUMBER)
    assert translate.page_in(0, token, "numbers") == (100, NUMBER)
    assert translate.page_in(7, "", "numbers") == (7, "")
    assert translate.page_token("numbers", "") == ""
    for other in ("blocks", "numbers\x1fx"):
        with pytest.raises(InvalidArgument, match="INVALID_PAGE_TOKEN"):
            translate.page_in(0, token, other)
    for bad in ("%%%", token[:-1], "é", base64.b64encode(b"\xff\xff\xff").decode()):
        with pytest.raises(InvalidArgument, match="INVALID_PAGE_TOKEN"):
            translate.page_in(0, bad, "numbers")
    for size in (-1, 1001):
        with pytest.raises(InvalidArgument, match="page_size"):
            translate.page_in(size, "", "numbers")


def test_a_filter_by_state() -> None:
    assert translate.state_in(0) is None
    assert translate.state_in(number_pb2.NUMBER_STATE_LOCKED) is State.LOCKED
    with pytest.raises(InvalidArgument):
        translate.state_in(99)
