"""Call events as records of the topic. Pure but for sealing."""

from typing import cast

from axbridge.router.v1 import events_pb2
from axbridge.type.v1 import sealed_pb2

from services.router.callevents import CallEvents
from services.router.events import event_associated
from services.router.translate import timestamp
from services.runtime.clock import SystemClock
from services.runtime.envelope import Envelope
from services.runtime.keyring import MemoryKeyRing
from services.runtime.record import Record
from services.runtime.sealing import PurgeSealer

NOW = 1_800_000_000_000
HOUR = 3600 * 1000
RING = MemoryKeyRing()
EVENTS = CallEvents(PurgeSealer(RING))


def fact(call_id: str, at: int, sequence: int) -> events_pb2.CallFact:
    return events_pb2.CallFact(
        carrier="cmcc", call_id=call_id, journal="r1-0-a", journal_sequence=sequence,
        time=timestamp(NOW + at),
    )  # fmt: skip


def routed(call_id: str, at: int = 0, sequence: int = 1) -> events_pb2.CallRouted:
    box = PurgeSealer(RING).seal(
        "t1", SystemClock().now(), b"secret", event_associated("cmcc", call_id, "r1-0-a", sequence)
    )
    return events_pb2.CallRouted(
        fact=fact(call_id, at, sequence), number="700123456780001",
        binding=events_pb2.CallBinding(tenant="t1", binding="b1", version=1),
        secrets=sealed_pb2.Sealed(key_id=box.key_id, box=box.box),
    )  # fmt: skip


def refused(call_id: str, at: int = 0) -> events_pb2.CallRefused:
    return events_pb2.CallRefused(fact=fact(call_id, at, 3), reason=5, q850_cause=21)  # type: ignore[arg-type]


def ended(call_id: str, at: int = 9_000, leg: int = 1) -> events_pb2.CallProgressed:
    return events_pb2.CallProgressed(
        fact=fact(call_id, at, 20 + leg), leg=leg, sequence=1, kind=3,  # type: ignore[arg-type]
        event_time=timestamp(NOW + at),
    )  # fmt: skip


def record(offset: int, event: object) -> Record:
    message = cast(events_pb2.CallRouted, event)
    envelope = Envelope(f"e-{offset}", message.DESCRIPTOR.full_name, "router/r1", NOW)
    key = f"{message.fact.carrier}/{message.fact.call_id}".encode()
    return Record("calls", 0, offset, key, message.SerializeToString(), envelope.headers(), NOW)
