"""Items of batches and streams: each is read as its own rpc's request, and refused by itself."""

import uuid
from typing import Any

import pytest
from axbridge.binding.v1 import binding_service_pb2 as pb
from axbridge.type.v1.phone_number_pb2 import PhoneNumber
from google.rpc import error_details_pb2
from hypothesis import given
from hypothesis import strategies as st

from services.binding import items, translate
from services.binding.commands import Create, Release, Update
from services.runtime.clock import ManualClock
from services.runtime.errors import AxbridgeError, FailedPrecondition, InvalidArgument
from tests.unit.binding.memory import binding

PARENT = "tenants/didi"
NAME = f"{PARENT}/bindings/{uuid.UUID(int=5)}"


def create(**fields: Any) -> pb.CreateBindingRequest:
    request = pb.CreateBindingRequest(
        request_id=str(uuid.uuid4()), pool=f"{PARENT}/pools/city", order_id="o", industry_id="taxi",
        number_a=PhoneNumber(e164="13512345678"), number_b=PhoneNumber(e164="13612345678"),
        **fields,
    )  # fmt: skip
    request.life.seconds = 3600
    return request


def test_an_item_may_leave_its_parent_out_but_not_name_another() -> None:
    found = items.creates(
        pb.BatchCreateBindingsRequest(
            parent=PARENT,
            requests=[create(), create(parent=PARENT), create(parent="tenants/other"), create(
                parent="nonsense"
            )],
        )
    )  # fmt: skip
    assert [type(each) for each in found] == [Create, Create, InvalidArgument, InvalidArgument]
    foreign = NAME.replace("didi", "other")
    cases: list[tuple[Any, Any]] = [
        (items.updates, pb.BatchUpdateBindingsRequest(parent=PARENT)),
        (items.releases, pb.BatchReleaseBindingsRequest(parent=PARENT)),
    ]
    for read, request in cases:
        for name in (foreign, NAME):
            each: Any = request.requests.add(name=name)
            if isinstance(each, pb.UpdateBindingRequest):
                each.request_id, each.version = str(uuid.uuid4()), 1
                each.expire_time.seconds = 2**31
        refused, own = read(request)
        assert str(refused) == "INVALID_FIELD field=name"
        assert isinstance(own, Update | Release)


@pytest.mark.parametrize("count", [0, 1001])
def test_a_batch_has_1_to_1000_items(count: int) -> None:
    requests = [create()] * count
    with pytest.raises(InvalidArgument, match="BATCH_SIZE_INVALID limit=1000"):
        items.creates(pb.BatchCreateBindingsRequest(parent=PARENT, requests=requests))
    with pytest.raises(InvalidArgument, match="BATCH_SIZE_INVALID"):
        items.size(pb.StreamBindingsRequest(items=[pb.StreamItem()] * count))
    with pytest.raises(InvalidArgument, match="INVALID_FIELD field=parent"):
        items.creates(pb.BatchCreateBindingsRequest(requests=requests))


def test_what_a_stream_is_to_do() -> None:
    update = pb.UpdateBindingRequest(name=NAME, request_id=str(uuid.uuid4()), version=1)
    update.expire_time.seconds = 2**31
    found = items.streamed(
        pb.StreamBindingsRequest(
            items=[
                pb.StreamItem(create=create(parent=PARENT)),
                pb.StreamItem(update=update),
                pb.StreamItem(release=pb.ReleaseBindingRequest(name=NAME)),
                pb.StreamItem(release=pb.ReleaseBindingRequest()),
                pb.StreamItem(sequence=5),
            ]
        )
    )
    assert [type(each) for each in found] == [
        Create, Update, Release, InvalidArgument, InvalidArgument
    ]  # fmt: skip
    assert str(found[-1]) == "INVALID_FIELD field=operation"


def test_results_name_their_binding_and_carry_reason_and_number() -> None:
    clock = ManualClock()
    made = binding(clock, "b1")
    message = pb.StreamBindingsRequest(
        items=[
            pb.StreamItem(sequence=7, create=create()),
            pb.StreamItem(sequence=7, release=pb.ReleaseBindingRequest(name=NAME)),
            pb.StreamItem(sequence=-1),
        ]
    )
    ended = FailedPrecondition("BINDING_ENDED", "ended", binding="b2")
    answer = items.stream_results(message, [made, ended, ended], "m")
    assert [each.sequence for each in answer.results] == [7, 7, -1]
    first, second, third = (each.result for each in answer.results)
    assert first.binding == translate.resource(made)
    assert first.name == first.binding.name
    assert (second.name, third.name) == (NAME, "")
    info = error_details_pb2.ErrorInfo()
    assert second.error.details[0].Unpack(info)
    assert (second.error.code, info.reason, dict(info.metadata)) == (
        9, "BINDING_ENDED", {"binding": "b2"}
    )  # fmt: skip


@given(raw=st.binary(max_size=300), kind=st.sampled_from([
    (pb.BatchCreateBindingsRequest, items.creates), (pb.BatchUpdateBindingsRequest, items.updates),
    (pb.BatchReleaseBindingsRequest, items.releases), (pb.ReleaseOrderRequest, items.order),
    (pb.StreamBindingsRequest, items.streamed),
]))  # fmt: skip
def test_any_message_is_read_or_refused(raw: bytes, kind: Any) -> None:
    made, read = kind
    request = made()
    try:
        request.ParseFromString(raw)
    except Exception:
        return  # does not decode: the server's guard refuses it
    try:
        found = read(request)
    except InvalidArgument:
        return
    if made is not pb.ReleaseOrderRequest:
        assert all(isinstance(e, Create | Update | Release | AxbridgeError) for e in found)
