"""Brokers away: writes say when to retry and happen once; routers route what they knew."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import grpc
import pytest
from axbridge.binding.v1 import binding_pb2, binding_service_pb2

from deploy.local.clients import create_request
from deploy.local.waiting import eventually
from services.runtime.status import reason_of
from tests import scene
from tests.scene import Scene, digits, outcome, retry_after, routes, uuid_of

pytestmark = pytest.mark.timeout(300)  # starts many processes; for a loaded machine


@pytest.fixture(scope="module")
def known(stage: Scene) -> tuple[str, str, str]:
    """A, B and the number of a binding that all routers know."""
    a, b = stage.mobile(), stage.mobile()
    number = digits(stage.platform.bind("rides", a, b, "known"))
    routes(stage, a, number, b)
    return a, b, number


def test_kafka_down(stage: Scene, known: tuple[str, str, str]) -> None:
    kafka = stage.cluster.brokers.kafka
    release = stage.platform.bind("rides", stage.mobile(), stage.mobile(), "ends meanwhile")
    a, b = stage.mobile(), stage.mobile()
    request = create_request(stage.tenant, "rides", a, b, "kafka down")
    stub = scene.bare_platform(stage)
    kafka.kill()
    refused_with_a_hint(lambda: stub.CreateBinding(request, timeout=30), {"LOG_UNAVAILABLE"})
    refused_with_a_hint(lambda: stub.CreateBinding(request, timeout=30), {"LOG_UNAVAILABLE"})
    ending = binding_service_pb2.ReleaseBindingRequest(name=release.name)
    refused_with_a_hint(lambda: stub.ReleaseBinding(ending, timeout=30), {"LOG_UNAVAILABLE"})
    routers_go_on(stage, known)
    kafka.start()
    happened_once(stage, stub, request, a, b)
    ended = retried(lambda: stub.ReleaseBinding(ending, timeout=30))
    assert (ended.version, ended.state) == (2, binding_pb2.BINDING_STATE_RELEASED)
    scene.sound(stage.cluster)


def test_valkey_down(stage: Scene, known: tuple[str, str, str]) -> None:
    valkey = stage.cluster.brokers.valkey
    a, b = stage.mobile(), stage.mobile()
    request = create_request(stage.tenant, "rides", a, b, "valkey down")
    stub = scene.bare_platform(stage)
    valkey.kill()
    for _ in range(2):
        refused_with_a_hint(lambda: stub.CreateBinding(request, timeout=30), {"STORE_UNAVAILABLE"})
    routers_go_on(stage, known)
    valkey.start()
    happened_once(stage, stub, request, a, b)
    scene.sound(stage.cluster)


def test_both_down(stage: Scene, known: tuple[str, str, str]) -> None:
    brokers = stage.cluster.brokers
    a, b = stage.mobile(), stage.mobile()
    request = create_request(stage.tenant, "rides", a, b, "both down")
    stub = scene.bare_platform(stage)
    brokers.kafka.kill()
    brokers.valkey.kill()
    refused_with_a_hint(lambda: stub.CreateBinding(request, timeout=30), {"STORE_UNAVAILABLE"})
    routers_go_on(stage, known)
    # A router that starts while both are away routes what is on its disk.
    router = stage.cluster.services["router-1"]
    router.stop()
    router.start()
    eventually(lambda: answers(stage, known), scene.PATIENCE, what="a router without brokers")
    brokers.valkey.start()
    brokers.kafka.start()
    happened_once(stage, stub, request, a, b)
    scene.sound(stage.cluster)


def refused_with_a_hint(call: Callable[[], object], reasons: set[str]) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        call()
    error: Any = refused.value
    assert (error.code(), reason_of(error) in reasons) == (grpc.StatusCode.UNAVAILABLE, True), error
    assert 0 < retry_after(error) <= 10


def routers_go_on(stage: Scene, known: tuple[str, str, str]) -> None:
    a, b, number = known
    for switch in stage.switches:
        for _ in range(20):
            assert outcome(switch.call(a, number)) == b
            assert outcome(switch.call(b, number)) == a


def answers(stage: Scene, known: tuple[str, str, str]) -> bool:
    a, b, number = known
    with suppress(grpc.RpcError):
        return outcome(stage.switches[0].call(a, number)) == b
    return False


def retried(call: Callable[[], Any]) -> Any:
    """The answer once it comes; UNAVAILABLE alone is borne."""

    def asked() -> Any:
        try:
            return call()
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.UNAVAILABLE:
                raise
            return None

    return eventually(asked, scene.PATIENCE, what="an answer", every_seconds=0.2)


def happened_once(
    stage: Scene, stub: Any, request: binding_service_pb2.CreateBindingRequest, a: str, b: str
) -> None:
    """The same request again gives one binding, which is routed, and one event."""
    bound = retried(lambda: stub.CreateBinding(request, timeout=30))
    assert retried(lambda: stub.CreateBinding(request, timeout=30)) == bound
    assert stage.platform.list(order_id=request.order_id) == [bound]
    routes(stage, a, digits(bound), b)
    eventually(
        lambda: len(stage.auditor.query(binding=uuid_of(bound), type="BindingCreated")) == 1,
        scene.PATIENCE,
        what="the creation in the log",
    )
    by_order = stage.auditor.query(tenant=stage.tenant, order_id=request.order_id)
    assert len(by_order) == 1
