"""Makes events as the services publish them, for the tests of audit."""

from datetime import UTC, datetime
from typing import Any

from axbridge.allocator.v1 import events_pb2 as allocator
from axbridge.binding.v1 import events_pb2 as binding
from axbridge.binding.v1.binding_pb2 import BINDING_MODE_AXB
from axbridge.router.v1 import events_pb2 as router
from axbridge.type.v1.sealed_pb2 import Sealed
from confluent_kafka import Producer

from services.runtime.envelope import Envelope
from services.runtime.record import Record
from services.runtime.sealing import PurgeSealer, associated

TIME_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z
END = datetime(2026, 1, 2, tzinfo=UTC)


def number(serial: int) -> str:
    return f"70010000001{serial:04d}"


def created(
    name: str,
    sealer: PurgeSealer | None = None,
    *,
    tenant: str = "taxi",
    order: str = "",
    serial: int = 0,
    version: int = 1,
    kind: Any = binding.BindingCreated,
    tags: tuple[bytes, bytes] = (b"a" * 16, b"b" * 16),
    mode: Any = BINDING_MODE_AXB,
    until_ms: int | None = None,
) -> Any:
    """BindingCreated (or another `kind`) of binding `name`, its order sealed if there is one."""
    message = kind(
        fact=binding.BindingFact(
            tenant=tenant,
            binding=name,
            number=number(serial),
            pool=f"tenants/{tenant}/pools/city",
            aggregate_version=version,
        )
    )
    message.fact.mode = mode
    if until_ms is not None:
        ended = kind is binding.BindingReleased
        (message.release_time if ended else message.fact.expire_time).FromMilliseconds(until_ms)
    if sealer is not None:
        secrets = binding.BindingSecrets(order_id=order, tag_a=tags[0], tag_b=tags[1])
        place = associated("binding-event", tenant, name, version)
        sealed = sealer.seal(tenant, END, secrets.SerializeToString(), place)
        message.secrets.CopyFrom(Sealed(key_id=sealed.key_id, box=sealed.box))
    return message


def routed(call: str, name: str = "b1", *, tenant: str = "taxi", serial: int = 0) -> Any:
    return router.CallRouted(
        fact=router.CallFact(carrier="c", call_id=call, journal="r1-0-aa", journal_sequence=1),
        number=number(serial),
        binding=router.CallBinding(tenant=tenant, binding=name, version=1),
    )


def leased(*serials: int, tenant: str = "taxi") -> Any:
    message = allocator.NumbersLeased(pool=f"tenants/{tenant}/pools/city")
    for serial in serials:
        message.leases.add(number=number(serial), epoch=1)
    return message


def envelope(event_id: str, message: Any, time_ms: int = TIME_MS) -> Envelope:
    return Envelope(event_id, message.DESCRIPTOR.full_name, "test", time_ms, 1, 1, 1)


def record(
    message: Any,
    event_id: str = "e1",
    *,
    topic: str = "binding.bindings.v1",
    partition: int = 0,
    offset: int = 0,
    key: bytes = b"k",
    time_ms: int = TIME_MS,
) -> Record:
    headers = envelope(event_id, message, time_ms).headers()
    value = message.SerializeToString()
    return Record(topic, partition, offset, key, value, headers, time_ms)


class Publisher:
    """Publishes like a service's relay; `flush` returns when Kafka has everything."""

    def __init__(self, bootstrap: str) -> None:
        self._producer = Producer(
            {"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 5}
        )

    def publish(
        self, topic: str, event_id: str, message: Any, partition: int = 0, time_ms: int = TIME_MS
    ) -> None:
        headers = envelope(event_id, message, time_ms).headers()
        self.raw(topic, message.SerializeToString(), headers, partition)

    def raw(self, topic: str, value: bytes | None, headers: Any, partition: int = 0) -> None:
        while True:
            try:
                self._producer.produce(topic, value, b"key", partition=partition, headers=headers)
                return
            except BufferError:
                self._producer.poll(0.1)

    def flush(self) -> None:
        assert self._producer.flush(30) == 0
