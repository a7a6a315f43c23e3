"""Random bytes and random messages to every rpc of every service: no process minds."""

import random
import urllib.request
from collections.abc import Iterator
from functools import partial
from types import ModuleType
from typing import Any

import grpc
import pytest
from axbridge.allocator.v1 import allocator_service_pb2
from axbridge.audit.v1 import audit_service_pb2
from axbridge.binding.v1 import binding_service_pb2
from axbridge.router.v1 import router_service_pb2
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deploy.local.cluster import Cluster
from tests import scene

SERVICES = {
    "allocator": allocator_service_pb2,
    "binding": binding_service_pb2,
    "router-1": router_service_pb2,
    "audit": audit_service_pb2,
}
SEED = 20260101
BLOBS, MESSAGES = 20, 40  # of each rpc
# Ours or the caller's trouble, never a defect: INTERNAL, UNKNOWN and DATA_LOSS are missing.
FINE = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.UNIMPLEMENTED,  # CheckNumber: there is no directory of platforms here
}
STRINGS = (
    "", "x", "\x00", "‮", "\U0010ffff", "'; --", "%s%n", "{}", "../..", "tenants/t", "a" * 70_000,
    "tenants/t/pools/p", "tenants/t/bindings/00000000-0000-4000-8000-000000000000", "anonymous",
    "numbers/700000000000000", "blocks/70000000000", "700000000000000", "+8613800000001", "carrier",
    "00000000-0000-4000-8000-000000000000", "tenants/t\n", "７００", "-1", "axbridge",
)  # fmt: skip
NUMBERS = (0, 1, -1, 2, 100, 1000, 2**31 - 1, -(2**31), 253_402_300_800, 2**63 - 1, -(2**63))


def methods(module: ModuleType) -> Iterator[MethodDescriptor]:
    for service in module.DESCRIPTOR.services_by_name.values():
        yield from service.methods


@pytest.mark.parametrize("name", SERVICES)
def test_random_requests_crash_nothing(cluster: Cluster, name: str) -> None:
    before = {child.name: child.pid for child in cluster.children}
    chance = random.Random(f"{SEED}/{name}")
    with grpc.insecure_channel(cluster.addresses[name], [("grpc.enable_retries", 0)]) as channel:
        for method in methods(SERVICES[name]):
            path = f"/{method.containing_service.full_name}/{method.name}"
            call = channel.unary_unary(path, bytes, bytes)
            requests = [chance.randbytes(chance.randrange(400)) for _ in range(BLOBS)]
            kind = GetMessageClass(method.input_type)
            made = (fill(kind(), chance).SerializeToString() for _ in range(MESSAGES))
            requests += [flipped(octets, chance) for octets in made]
            for octets in requests:
                code, reason = scene.refusal(partial(call, octets, timeout=10))
                assert code in FINE, (path, code, reason, octets.hex()[:400])
        health = health_pb2_grpc.HealthStub(channel)
        answer = health.Check(health_pb2.HealthCheckRequest(), timeout=10)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    assert {child.name: child.pid for child in cluster.children if child.running} == before
    with urllib.request.urlopen(f"http://{cluster.health[name]}/readyz", timeout=10) as ready:
        assert ready.status == 200


def test_the_log_bears_what_the_random_requests_left(cluster: Cluster) -> None:
    scene.sound(cluster)


def fill(message: Message, chance: random.Random, depth: int = 0) -> Message:
    """The message with some of its fields set to what is likely to hurt."""
    for field in message.DESCRIPTOR.fields:
        if chance.random() < 0.25:
            continue
        if field.is_repeated:
            values = getattr(message, field.name)
            for _ in range(chance.choice((0, 1, 3, 201))):
                if field.message_type is None:
                    values.append(value(field, chance))
                elif depth < 4:
                    fill(values.add(), chance, depth + 1)
        elif field.message_type is not None:
            if depth < 4:
                getattr(message, field.name).SetInParent()
                fill(getattr(message, field.name), chance, depth + 1)
        else:
            setattr(message, field.name, value(field, chance))
    return message


def value(field: Any, chance: random.Random) -> Any:
    kind = field.cpp_type
    if field.type == FieldDescriptor.TYPE_BYTES:
        return chance.randbytes(chance.choice((0, 1, 16, 513)))
    if kind == FieldDescriptor.CPPTYPE_STRING:
        return chance.choice(STRINGS)
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return chance.random() < 0.5
    if kind in {FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE}:
        return chance.choice((0.0, -1.0, float("nan"), float("inf")))
    small = kind in {FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_ENUM}
    return chance.choice([n for n in NUMBERS if not small or -(2**31) <= n < 2**31])


def flipped(octets: bytes, chance: random.Random) -> bytes:
    """One time in three with some octets changed: lengths and tags are hit as well."""
    changed = bytearray(octets)
    if changed and chance.random() < 0.33:
        for _ in range(3):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)
