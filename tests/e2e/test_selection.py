"""Which number a binding gets: by area, by name, the same again, one by one and in a batch."""

from typing import Any

import grpc
from axbridge.allocator.v1 import allocator_service_pb2 as allocator_pb2
from axbridge.allocator.v1 import number_pb2
from axbridge.binding.v1 import binding_pb2
from axbridge.binding.v1 import binding_service_pb2 as pb
from axbridge.type.v1 import selection_pb2

from deploy.local.clients import create_request
from deploy.local.waiting import eventually
from services.runtime.status import error_from_status
from tests import scene
from tests.scene import Scene, digits, refusal, routes

STRICT = selection_pb2.AREA_MATCH_STRICT
SAME = selection_pb2.STICKINESS_SAME


def request(stage: Scene, a: str, b: str, **selection: Any) -> pb.CreateBindingRequest:
    asked = create_request(stage.tenant, "areas", a, b, "trip")
    asked.selection.CopyFrom(selection_pb2.Selection(**selection))
    return asked


def bound(stage: Scene, a: str, b: str, **selection: Any) -> binding_pb2.Binding:
    return stage.platform.create(request(stage, a, b, **selection))


def settled(stage: Scene, number: str, pairs: int) -> None:
    """Waits until allocator knows."""
    get = allocator_pb2.GetNumberRequest(name=f"numbers/{number}")
    eventually(
        lambda: stage.pools.stub.GetNumber(get, timeout=10).pairs == pairs,
        scene.PATIENCE,
        what="allocator",
    )


def test_a_platform_says_which_number(stage: Scene) -> None:
    stage.pools.create("areas", shared=True)
    shenzhen, anywhere = f"{int(stage.block) ^ 1}", f"{int(stage.block) ^ 2}"
    for block, area in ((shenzhen, "440300"), (anywhere, "")):
        wanted = number_pb2.Block(name=f"blocks/{block}", pool=f"{stage.pools.parent}/pools/areas")
        wanted.area = area
        stage.pools.stub.RegisterBlock(allocator_pb2.RegisterBlockRequest(block=wanted), timeout=10)
    a, b, c, d = (stage.mobile() for _ in range(4))
    first = bound(stage, a, b, areas=["440000"], area_match=STRICT)
    x = digits(first)
    assert x.startswith(shenzhen)
    asked = request(stage, a, b, areas=["110000"], area_match=STRICT)
    exhausted = grpc.StatusCode.RESOURCE_EXHAUSTED, "AREA_EXHAUSTED"
    assert refusal(lambda: stage.platform.create(asked)) == exhausted
    asked = request(stage, a, c, number=x)
    unavailable = grpc.StatusCode.FAILED_PRECONDITION, "NUMBER_UNAVAILABLE"
    assert refusal(lambda: stage.platform.create(asked)) == unavailable, "A is on it"
    batch = pb.BatchCreateBindingsRequest(
        parent=f"tenants/{stage.tenant}",
        requests=[
            request(stage, c, d, number=x),
            request(stage, a, d, number="7009999999999"),
            request(stage, a, d, number="700999999999999"),
        ],
    )
    good, *bad = stage.platform.stub.BatchCreateBindings(batch, timeout=30).results
    assert digits(good.binding) == x
    reasons = [error_from_status(each.error).reason for each in bad]
    assert reasons == ["NUMBER_INVALID", "NUMBER_NOT_FOUND"]
    routes(stage, c, x, d)
    settled(stage, x, 2)
    stage.platform.release(first.name)
    settled(stage, x, 1)
    assert digits(bound(stage, a, b)) != x, "they rest from it"
    assert digits(bound(stage, b, a, number=x, stickiness=SAME)) == x
    routes(stage, a, x, b)
    scene.sound(stage.cluster)
