"""What router tests stand on: a key ring, sealed Route records, and a router's processes.

Numbers and tenants are fresh per world, so tests share one broker without meeting.
"""

import os
import random
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
from axbridge.binding.v1 import binding_pb2, events_pb2
from axbridge.router.v1 import router_service_pb2 as rpc
from axbridge.router.v1 import router_service_pb2_grpc
from axbridge.type.v1 import sealed_pb2
from confluent_kafka import Consumer, Message, Producer, TopicPartition
from google.protobuf.timestamp_pb2 import Timestamp

from deploy.local import waiting
from services.runtime.envelope import Envelope
from services.runtime.keyring import EvidenceKeys, FileKeyRing
from services.runtime.record import Record
from services.runtime.sealing import Tagger, route_associated, seal
from services.runtime.topics import partition_of
from services.runtime.wrapping import new_route_key, route_key_id, wrap_route_key

MINUTE_MS = 60_000


def now_ms() -> int:
    """The wall clock, in ms since 1970."""
    return time.time_ns() // 1_000_000


@dataclass
class World:
    """A tenant with its keys, and what binding would publish for it."""

    folder: Path
    tenant: str = field(default_factory=lambda: f"t-{uuid.uuid4().hex[:12]}")
    block: str = field(default_factory=lambda: f"700{random.randrange(10**8):08d}")

    def __post_init__(self) -> None:
        self.keyring = FileKeyRing(self.folder / "keys")
        self.tagger = Tagger(self.keyring)
        EvidenceKeys.generate(self.folder / "evidence")
        self.route_keys: dict[str, bytes] = {}
        self._serial = 0

    def number(self) -> str:
        """A 700 number of the tenant's block, each time another."""
        self._serial += 1
        return f"{self.block}{self._serial:04d}"

    def route(
        self,
        number: str,
        binding: str,
        a: str,
        b: str,
        *,
        version: int = 1,
        expire_ms: int = 0,
        direction: int = binding_pb2.CALL_DIRECTION_BOTH,
        minutes: int = 30,
        released: bool = False,
        options: str = "",
    ) -> events_pb2.Route:
        """The Route record that binding publishes; a, b in E.164."""
        expire_ms = expire_ms or now_ms() + 60 * MINUTE_MS
        expire = Timestamp(seconds=expire_ms // 1000, nanos=expire_ms % 1000 * 1_000_000)
        tag_a, tag_b = self.tagger.party(self.tenant, a), self.tagger.party(self.tenant, b)
        route = events_pb2.Route(
            tenant=self.tenant, binding=binding, number=number, version=version,
            mode=binding_pb2.BINDING_MODE_AXB, state=binding_pb2.BINDING_STATE_ACTIVE,
            direction=direction, max_call_minutes=minutes, expire_time=expire,  # type: ignore[arg-type]
            tag_a=tag_a, tag_b=tag_b, lease_epoch=1, industry_id="taxi",
            options=options,
        )  # fmt: skip
        if released:
            route.state = binding_pb2.BINDING_STATE_RELEASED
            return route
        day = datetime.fromtimestamp(expire_ms / 1000, UTC)
        key_id = route_key_id(self.tenant, day)
        key = self.route_keys.setdefault(key_id, new_route_key())
        for side, callee, caller_tag in (("a", a, tag_b), ("b", b, tag_a)):
            bound = route_associated(
                tenant=self.tenant, binding=binding, number=number, version=version,
                mode=route.mode, direction=direction, max_call_minutes=minutes,
                expire_ms=expire_ms, side=side, caller_tag=caller_tag,  # type: ignore[arg-type]
                options=options,
            )  # fmt: skip
            box = seal(key, key_id, callee.encode(), bound)
            getattr(route, f"callee_{side}").CopyFrom(
                sealed_pb2.Sealed(key_id=box.key_id, box=box.box)
            )
        return route

    def axe_route(
        self, number: str, binding: str, a: str, extension: str, back_seconds: int
    ) -> events_pb2.Route:
        """The Route record of a binding of mode AXE."""
        options = f"sms=0;callback_seconds={back_seconds};extension={extension}"
        route = self.route(number, binding, a, "+8613000000000", options=options)
        route.mode, route.tag_b = binding_pb2.BINDING_MODE_AXE, b""
        route.ClearField("callee_b")
        expire = route.expire_time
        bound = route_associated(
            tenant=self.tenant, binding=binding, number=number, version=1, mode=route.mode,
            direction=route.direction, max_call_minutes=route.max_call_minutes,
            expire_ms=expire.seconds * 1000 + expire.nanos // 1_000_000, side="a",
            caller_tag=extension.encode(), options=options,
        )  # fmt: skip
        key_id = route.callee_a.key_id
        route.callee_a.box = seal(self.route_keys[key_id], key_id, a.encode(), bound).box
        return route

    def wrapped_keys(self) -> Iterator[events_pb2.RouteKey]:
        """The RouteKey records for all routes made so far."""
        for key_id, key in self.route_keys.items():
            wrapped = wrap_route_key(self.keyring, key_id, key)
            yield events_pb2.RouteKey(
                key_id=key_id,
                wrapped=sealed_pb2.Sealed(key_id=wrapped.key_id, box=wrapped.box),
            )


def envelope(version: int = 1) -> list[tuple[str, str | bytes | None]]:
    """Headers of a compacted record."""
    event_id = uuid.uuid4().hex
    return Envelope(
        event_id, "axbridge.binding.v1.Route", "binding/c0", now_ms(), version
    ).headers()


def route_record(world: World, **more: object) -> Record:
    """A record of `binding.routes.v1` as it is read, with fields changed."""
    route = world.route(world.number(), "b1", "+8613812345678", "+8613912345678")
    for name, value in more.items():
        setattr(route, name, value)
    key = f"{route.number}/{route.binding}".encode()
    return Record("routes", 0, 0, key, route.SerializeToString(), envelope(), 0)


class BindingStub:
    """Publishes what binding would."""

    def __init__(
        self, bootstrap: str, routes: str, keys: str, partitions: int, denials: str = ""
    ) -> None:
        self._producer = Producer({"bootstrap.servers": bootstrap, "acks": "all", "linger.ms": 0})
        self._routes, self._keys, self._partitions = routes, keys, partitions
        self._denials = denials

    def publish(self, *routes: events_pb2.Route, world: World | None = None) -> None:
        """Returns when Kafka has the routes, and before them the world's keys."""
        for key in world.wrapped_keys() if world else ():
            self._send(self._keys, key.key_id, key.key_id, key.SerializeToString(), 1)
        for route in routes:
            name = f"{route.number}/{route.binding}"
            self._send(self._routes, name, route.number, route.SerializeToString(), route.version)
        assert self._producer.flush(10) == 0

    def deny(
        self, world: World, entry: str, caller: str, callee: str = "", life_ms: int = 60 * MINUTE_MS
    ) -> None:
        """Publishes an entry of the tenant's blacklist; `life_ms` 0: its end."""
        denial = events_pb2.Denial(
            tenant=world.tenant, entry=entry, version=1,
            caller_tag=world.tagger.party(world.tenant, caller),
            callee_tag=world.tagger.party(world.tenant, callee) if callee else b"",
        )  # fmt: skip
        denial.expire_time.FromMilliseconds(now_ms() + life_ms)
        key, value = f"blacklist/{world.tenant}/{entry}", denial.SerializeToString()
        self._send(self._denials, key, key, value if life_ms else None, 1 if life_ms else 2)
        assert self._producer.flush(10) == 0

    def end(self, number: str, binding: str, version: int) -> None:
        """Publishes the tombstone."""
        self._send(self._routes, f"{number}/{binding}", number, None, version)
        assert self._producer.flush(10) == 0

    def _send(self, topic: str, key: str, of: str, value: bytes | None, version: int) -> None:
        self._producer.produce(
            topic, key=key.encode(), value=value, headers=envelope(version),
            partition=partition_of(of, self._partitions),
        )  # fmt: skip


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


@contextmanager
def process(
    module: str, environment: dict[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs `python -m module` until the block ends; its log is shown by the test's failure. Tests
    ask again and again for what is not bound yet, so no caller is stopped for it."""
    environment = {"ROUTER_SCAN_MISSES_PER_MINUTE": "0", **environment}
    with log.open("ab") as out:
        child = subprocess.Popen(
            [sys.executable, "-m", module],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
            stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
        )  # fmt: skip
    try:
        yield child
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(20)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def eventually(check: Callable[[], Any], seconds: float = 20.0, what: str = "condition") -> Any:
    """The first true answer of the check. An rpc that finds no server yet is a false one."""

    def asked() -> Any:
        try:
            return check()
        except (grpc.RpcError, OSError):
            return None

    return waiting.eventually(asked, seconds, what=what)


class Switch:
    """A carrier's switch: asks and reports."""

    def __init__(self, address: str, carrier: str = "cmcc") -> None:
        self._channel = grpc.insecure_channel(
            address, options=[("grpc.use_local_subchannel_pool", 1),
                              ("grpc.max_reconnect_backoff_ms", 200),
                              ("grpc.initial_reconnect_backoff_ms", 50)])  # fmt: skip
        self._stub = router_service_pb2_grpc.RouterServiceStub(self._channel)
        self.carrier = carrier

    def ask(
        self, caller: str, dialled: str, call_id: str = "", timeout: float = 5,
        extension: str = "",
    ) -> rpc.RouteCallResponse:  # fmt: skip
        """RouteCall."""
        request = self.request(caller, dialled, call_id)
        request.extension = extension
        answer: rpc.RouteCallResponse = self._stub.RouteCall(request, timeout=timeout)
        return answer

    def request(self, caller: str, dialled: str, call_id: str = "") -> rpc.RouteCallRequest:
        """A RouteCallRequest."""
        return rpc.RouteCallRequest(
            call_id=call_id or uuid.uuid4().hex, carrier=self.carrier, caller=caller,
            dialled=dialled, trunk="trunk-1",
        )  # fmt: skip

    def explain(
        self, caller: str, dialled: str, time: Timestamp | None = None
    ) -> rpc.ExplainRouteResponse:
        """ExplainRoute."""
        asked = rpc.ExplainRouteRequest(call=self.request(caller, dialled), time=time)
        answer: rpc.ExplainRouteResponse = self._stub.ExplainRoute(asked, timeout=5)
        return answer

    def batch(self, requests: list[rpc.RouteCallRequest]) -> list[rpc.RouteCallResult]:
        """BatchRouteCalls."""
        asked = rpc.BatchRouteCallsRequest(requests=requests)
        return list(self._stub.BatchRouteCalls(asked, timeout=5).results)

    def stream(self, requests: list[rpc.RouteCallRequest]) -> list[rpc.RouteCallResult]:
        """StreamRouteCalls, all of them at once."""
        asked = (rpc.StreamRouteCallsRequest(request=request) for request in requests)
        return list(self._stub.StreamRouteCalls(asked, timeout=5))

    def report(
        self, call_id: str, leg: int, sequence: int, kind: int, at_ms: int, **more: int
    ) -> None:
        """ReportCallEvent."""
        when = Timestamp(seconds=at_ms // 1000, nanos=at_ms % 1000 * 1_000_000)
        self._stub.ReportCallEvent(
            rpc.ReportCallEventRequest(
                call_id=call_id, carrier=self.carrier, leg=leg, sequence=sequence, kind=kind,  # type: ignore[arg-type]
                event_time=when, **more,  # type: ignore[arg-type]
            ),
            timeout=5,
        )  # fmt: skip

    def check(self, number: str) -> rpc.CheckNumberResponse:
        """CheckNumber."""
        answer: rpc.CheckNumberResponse = self._stub.CheckNumber(
            rpc.CheckNumberRequest(number=number), timeout=5
        )
        return answer

    def close(self) -> None:
        """Hangs up for good."""
        self._channel.close()


def read_topic(bootstrap: str, topic: str) -> list[Message]:
    """Everything on the topic at this moment."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "test",
                         "enable.auto.commit": False})  # fmt: skip
    try:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        found: list[Message] = []
        for partition in partitions:
            place = TopicPartition(topic, partition, 0)
            _, end = consumer.get_watermark_offsets(place, timeout=10)
            consumer.assign([place])
            seen = 0
            while seen < end:
                for message in consumer.consume(1000, 1.0):
                    assert message.error() is None
                    seen = (message.offset() or 0) + 1
                    found.append(message)
        return found
    finally:
        consumer.close()
