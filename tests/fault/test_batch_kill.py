"""SIGKILL of binding in the middle of a batch: sent again, each item takes effect once."""

import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
import redis
from axbridge.binding.v1 import binding_pb2
from axbridge.binding.v1 import binding_service_pb2 as pb

from deploy.local.clients import create_request
from deploy.local.waiting import eventually
from tests import scene
from tests.scene import Scene, digits, refusal, routes, uuid_of

ITEMS = 1000
META = "binding:{c0}:meta"


@pytest.mark.parametrize("after", [1, 300, 700])
def test_creates_that_a_kill_interrupts_take_effect_once(stage: Scene, after: int) -> None:
    stage.platform.bind("rides", stage.mobile(), stage.mobile(), "first")  # the day's route key
    requests = [
        create_request(stage.tenant, "rides", stage.mobile(), stage.mobile(), f"o-{at}")
        for at in range(ITEMS)
    ]
    batch = pb.BatchCreateBindingsRequest(parent=f"tenants/{stage.tenant}", requests=requests)
    before = events(stage, "BindingCreated")
    killed_after(stage, after, lambda stub: stub.BatchCreateBindings(batch, timeout=60))
    results = stage.platform.stub.BatchCreateBindings(batch, timeout=60).results
    bound = [each.binding for each in results]
    assert all(each.HasField("binding") for each in results)
    assert [each.order_id for each in bound] == [each.order_id for each in requests]
    assert len({each.number for each in bound}) == ITEMS
    again = stage.platform.stub.BatchCreateBindings(batch, timeout=60).results
    assert [each.binding for each in again] == bound
    created = events(stage, "BindingCreated") - before
    assert created == {f"{uuid_of(each)}-1" for each in bound}
    for at in random.Random(after).sample(range(ITEMS), 20):
        routes(stage, requests[at].number_a.e164, digits(bound[at]), requests[at].number_b.e164)
    ends = pb.BatchReleaseBindingsRequest(
        parent=batch.parent, requests=[pb.ReleaseBindingRequest(name=each.name) for each in bound]
    )
    killed_after(stage, after, lambda stub: stub.BatchReleaseBindings(ends, timeout=60))
    results = stage.platform.stub.BatchReleaseBindings(ends, timeout=60).results
    states = {each.binding.state for each in results}
    assert states == {binding_pb2.BINDING_STATE_RELEASED}
    released = {event.rpartition("-")[0] for event in events(stage, "BindingReleased")}
    assert {uuid_of(each) for each in bound} <= released
    assert len(released) == len(events(stage, "BindingReleased"))
    routes(stage, requests[0].number_a.e164, digits(bound[0]), "RELEASED")
    scene.sound(stage.cluster)


def killed_after(stage: Scene, after: int, call: Any) -> None:
    """Makes the call and kills binding once so many of its items are in the outbox."""
    stub = scene.bare_platform(stage)
    with (
        redis.Redis.from_url(stage.cluster.brokers.valkey.url) as store,
        ThreadPoolExecutor(1) as p,
    ):
        before = int(store.hget(META, "seq") or 0)
        answer = p.submit(refusal, lambda: call(stub))
        eventually(
            lambda: int(store.hget(META, "seq") or 0) >= before + after,
            scene.PATIENCE, what="the functions", every_seconds=0.0005,
        )  # fmt: skip
        stage.cluster.services["binding"].kill()
        assert answer.result()[0] == grpc.StatusCode.UNAVAILABLE
    stage.cluster.services["binding"].start()
    stage.cluster.await_ready("binding")


def events(stage: Scene, kind: str) -> set[str]:
    """The ids of all events of the kind; one that was produced twice has one id."""
    return {
        (dict(record.headers)["ce_id"] or b"").decode()
        for record in stage.records("binding.bindings.v1")
        if (dict(record.headers)["ce_type"] or b"").decode().endswith(kind)
    }
