"""SIGKILL of binding between its function and its relay: the effect is there once, everywhere."""

from concurrent.futures import ThreadPoolExecutor
from signal import SIGCONT, SIGSTOP
from typing import Any

import grpc
import redis
from axbridge.allocator.v1 import allocator_service_pb2, number_pb2
from axbridge.binding.v1 import binding_pb2, binding_service_pb2
from confluent_kafka import Producer

from deploy.local.clients import create_request
from deploy.local.compaction import Record
from deploy.local.waiting import eventually
from tests import scene
from tests.scene import Scene, digits, refusal, routes, uuid_of

EVENTS = "binding.bindings.v1"
_HASH = 16  # octets of a body's hash, in front of the binding's id


def test_what_was_applied_and_not_relayed_takes_effect_once(stage: Scene) -> None:
    a, b = stage.mobile(), stage.mobile()
    stage.platform.bind("rides", stage.mobile(), stage.mobile(), "first")  # the day's route key
    request = create_request(stage.tenant, "rides", a, b, "trip-1")
    applied = killed_with_the_entry_in_the_outbox(stage, request)
    bound = stage.platform.create(request)
    assert uuid_of(bound) == applied
    assert stage.platform.create(request) == bound
    assert stage.platform.list(order_id="trip-1") == [bound]
    took_effect_once(stage, bound, a, b)


def test_an_event_that_the_topic_repeats_is_applied_once_and_one_leaf(stage: Scene) -> None:
    a, b = stage.mobile(), stage.mobile()
    bound = stage.platform.bind("rides", a, b, "trip-2")
    for topic in (EVENTS, "binding.routes.v1", "binding.state.v1"):
        repeat(stage, topic, of_binding(stage, topic, bound))
    stage.platform.bind("rides", stage.mobile(), stage.mobile(), "behind")
    ids = [event_id(record) for record in of_binding(stage, EVENTS, bound)]
    assert len(ids) == 2 * len(set(ids))
    took_effect_once(stage, bound, a, b)
    stage.platform.release(bound.name)
    repeat(stage, EVENTS, of_binding(stage, EVENTS, bound))
    routes(stage, a, digits(bound), "RELEASED")
    scene.sound(stage.cluster)


def killed_with_the_entry_in_the_outbox(
    stage: Scene, request: binding_service_pb2.CreateBindingRequest
) -> str:
    """Sends the request while Kafka stands still, kills binding, starts it again. Returns the id
    that the function gave the binding."""
    kafka, binding = stage.cluster.brokers.kafka.child, stage.cluster.services["binding"]
    stub = scene.bare_platform(stage)
    key = f"binding:{{c0}}:request:{stage.tenant}:{request.request_id}"
    with redis.Redis.from_url(stage.cluster.brokers.valkey.url) as store:
        kafka.signal(SIGSTOP)
        try:
            with ThreadPoolExecutor(1) as pool:
                answer = pool.submit(refusal, lambda: stub.CreateBinding(request, timeout=60))
                known: Any = eventually(lambda: store.get(key), scene.PATIENCE, what="the function")
                assert store.xlen("binding:{c0}:outbox") == 1
                binding.kill()
                assert answer.result()[0] == grpc.StatusCode.UNAVAILABLE
            assert store.xlen("binding:{c0}:outbox") == 1
        finally:
            kafka.signal(SIGCONT)
    binding.start()
    stage.cluster.await_ready("binding")
    return str(known[_HASH:].decode())


def took_effect_once(stage: Scene, bound: binding_pb2.Binding, a: str, b: str) -> None:
    """Every follower has applied the creation once, and the log has it as one leaf."""
    routes(stage, a, digits(bound), b)
    routes(stage, b, digits(bound), a)
    created = {event_id(record) for record in of_binding(stage, EVENTS, bound)}
    assert len(created) == 1
    scene.sound(stage.cluster)
    request = allocator_service_pb2.GetNumberRequest(name=bound.number)

    def counted() -> bool:
        number = stage.pools.stub.GetNumber(request, timeout=10)
        return (number.state, number.pairs) == (number_pb2.NUMBER_STATE_BOUND, 1)

    eventually(counted, scene.PATIENCE, what="allocator")

    def leaves() -> list[str]:
        events = stage.auditor.query(binding=uuid_of(bound), type="BindingCreated")
        return [event.entry.event_id for event in events]

    eventually(lambda: set(leaves()) == created, scene.PATIENCE, what="the index")
    assert len(leaves()) == 1


def of_binding(stage: Scene, topic: str, bound: binding_pb2.Binding) -> list[Record]:
    key = f"{digits(bound)}/{uuid_of(bound)}".encode()
    return [record for record in stage.records(topic) if record.key == key]


def event_id(record: Record) -> str:
    return (dict(record.headers)["ce_id"] or b"").decode()


def repeat(stage: Scene, topic: str, records: list[Record]) -> None:
    """Appends the records again as they are, as a relay does that died before it heard the ack."""
    producer = Producer({"bootstrap.servers": stage.bootstrap})
    for record in records:
        producer.produce(
            topic,
            record.value,
            record.key,
            partition=record.partition,
            headers=list(record.headers),
        )
    assert producer.flush(scene.PATIENCE) == 0
    producer.close()
