"""Records as the push process reads them, for its tests."""

from axbridge.binding.v1 import events_pb2 as binding
from axbridge.router.v1 import events_pb2 as router
from axbridge.type.v1 import sealed_pb2
from google.protobuf.message import Message

from services.runtime.aead import associated
from services.runtime.clock import ManualClock
from services.runtime.envelope import Envelope
from services.runtime.keyring import MemoryKeyRing
from services.runtime.record import Record
from services.runtime.sealing import PurgeSealer

TENANT, NUMBER = "t1", "700123456780001"
RING, CLOCK = MemoryKeyRing(), ManualClock()
_offsets = {"binding.bindings.v1": 0, "router.calls.v1": 0, "router.records.v1": 0}


def record(topic: str, key: str, event: Message, event_id: str, version: int = 1) -> Record:
    envelope = Envelope(
        event_id, event.DESCRIPTOR.full_name, "test", CLOCK.epoch_ms(), version=version
    )
    _offsets[topic] += 1
    return Record(
        topic, 0, _offsets[topic], key.encode(), event.SerializeToString(), envelope.headers(), 0
    )


def bound(name: str, version: int = 1, *, ended: bool = False) -> Record:
    """A binding event: its creation, or a later version, or its end."""
    secrets = binding.BindingSecrets(
        tag_a=b"a" * 16, order_id=f"order-{name}", customer_data=b"\x00data"
    )
    place = associated("binding-event", TENANT, name, version)
    sealed = PurgeSealer(RING).seal(TENANT, CLOCK.now(), secrets.SerializeToString(), place)
    fact = binding.BindingFact(
        tenant=TENANT, binding=name, number=NUMBER, aggregate_version=version
    )
    make = binding.BindingReleased if ended else binding.BindingCreated
    event = make(fact=fact, secrets=sealed_pb2.Sealed(key_id=sealed.key_id, box=sealed.box))
    key = f"{NUMBER}/{name}"
    return record("binding.bindings.v1", key, event, f"{name}-{version}", version)


def routed(call: str, name: str) -> Record:
    event = router.CallRouted(
        fact=router.CallFact(carrier="cmcc", call_id=call),
        number=NUMBER,
        binding=router.CallBinding(tenant=TENANT, binding=name, version=1),
    )
    event.secrets.box = b"sealed"
    return record("router.calls.v1", f"cmcc/{call}", event, f"routed-{call}")


def progressed(call: str, sequence: int) -> Record:
    event = router.CallProgressed(
        fact=router.CallFact(carrier="cmcc", call_id=call), sequence=sequence
    )
    return record("router.calls.v1", f"cmcc/{call}", event, f"progress-{call}-{sequence}")
