"""What a platform is told of: events as items of the push queue, and as JSON.

Knows three topics: binding events, call events and records of calls. Refuses to show more than a
platform gave or may see: no party, no tag, no evidence copy leaves here. Invariant: what leaves is
the event's clear part, with the order id and the opaque data that the platform itself gave.
"""

import base64
from dataclasses import dataclass
from typing import Any, Final

from axbridge.binding.v1 import events_pb2 as binding
from axbridge.router.v1 import events_pb2 as router
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError

from services.runtime import topics
from services.runtime.envelope import rfc3339
from services.runtime.errors import Malformed
from services.runtime.keyring import KeyDestroyed
from services.runtime.record import Record
from services.runtime.sealing import PurgeSealer, SealBroken, Sealed, associated

TOPICS: Final = (
    topics.BINDING_BINDINGS.name,
    topics.ROUTER_CALLS.name,
    topics.ROUTER_RECORDS.name,
)
_BINDING: Final = "axbridge.binding.v1."
_ROUTER: Final = "axbridge.router.v1."
_CLASSES: Final[dict[str, Any]] = {
    **{
        f"{_BINDING}{each.DESCRIPTOR.name}": each
        for each in (binding.BindingCreated, binding.BindingUpdated, binding.BindingReleased)
    },
    **{
        f"{_ROUTER}{each.DESCRIPTOR.name}": each
        for each in (
            router.CallRouted, router.CallRefused, router.CallProgressed, router.CallRecorded,
        )
    },
}  # fmt: skip


@dataclass(frozen=True, slots=True, repr=False)
class PushItem:
    """An event. `tenant` and `binding` are empty where the event does not say: then `call`, the key
    of its call, does. `ended`: the binding's last."""

    event_id: str
    type: str
    time_ms: int
    tenant: str
    binding: str
    call: str
    ended: bool
    value: bytes


def decode(record: Record) -> PushItem | None:
    """The item of a record; None for a type that is not pushed.

    Raises:
        Malformed: PUSH_EVENT_MALFORMED.
    """
    envelope = record.envelope
    make = _CLASSES.get(envelope.type)
    if make is None:
        return None
    try:
        event = make.FromString(record.value or b"")
    except DecodeError:
        raise Malformed("PUSH_EVENT_MALFORMED") from None
    if envelope.type.startswith(_BINDING):
        whose, call = event.fact, ""
    else:
        whose = getattr(event, "binding", router.CallBinding())
        call = record.key.decode("ascii", "replace")
    ended = isinstance(event, binding.BindingReleased)
    return PushItem(
        envelope.event_id, envelope.type, envelope.time_ms, whose.tenant, whose.binding, call,
        ended, record.value or b"",
    )  # fmt: skip


class Renderer:
    """Makes the JSON of an item."""

    def __init__(self, purge: PurgeSealer) -> None:
        self._purge = purge

    def __call__(self, item: PushItem, sequence: int, about: bytes | None) -> dict[str, Any]:
        """`about` is the value of the binding's newest event, where it is known: from there comes
        the order of a call."""
        event = _CLASSES[item.type].FromString(item.value)
        if hasattr(event, "secrets"):
            event.ClearField("secrets")
        shown: dict[str, Any] = {
            "id": item.event_id,
            "type": item.type.rpartition(".")[2],
            "time": rfc3339(item.time_ms),
            "sequence": sequence,
            "data": MessageToDict(event, preserving_proto_field_name=True),
        }
        if item.binding:
            shown["binding"] = f"tenants/{item.tenant}/bindings/{item.binding}"
        if about is not None:
            shown |= self._order(about)
        return shown

    def _order(self, about: bytes) -> dict[str, Any]:
        """Order and customer data; nothing once they are erased or where they do not open."""
        event = binding.BindingUpdated.FromString(about)  # all three begin alike: fact, secrets
        fact, sealed = event.fact, Sealed(event.secrets.key_id, event.secrets.box)
        bound = associated("binding-event", fact.tenant, fact.binding, fact.aggregate_version)
        try:
            secrets = binding.BindingSecrets.FromString(self._purge.open(sealed, bound))
        except (KeyDestroyed, SealBroken, DecodeError):
            return {}
        data = base64.b64encode(secrets.customer_data).decode()
        return {"order_id": secrets.order_id, "customer_data": data}
