"""Reads out of a leaf what the index shall know of it.

Opens the sealed part of a binding event for one thing, the order id, and gives on only its blind
tag. Refuses to fail: a leaf whose sealed part cannot be opened is indexed without an order.
Invariant: no real number, order id or other personal value leaves here in clear.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from axbridge.allocator.v1 import events_pb2 as allocator
from axbridge.audit.v1 import entry_pb2
from axbridge.binding.v1 import events_pb2 as binding
from axbridge.router.v1 import events_pb2 as router
from google.protobuf.message import DecodeError

from services.audit.domain import NUMBER, IndexRow
from services.runtime.keyring import KeyDestroyed
from services.runtime.sealing import PurgeSealer, SealBroken, Sealed, Tagger, associated

Fields = dict[str, Any]


class Extractor:
    """Makes index rows. `unreadable` is called for each sealed part that should open and does not;
    one whose key was destroyed at the end of its retention is no such part."""

    def __init__(
        self, sealer: PurgeSealer, tagger: Tagger, unreadable: Callable[[], None] = lambda: None
    ) -> None:
        self._sealer = sealer
        self._tagger = tagger
        self._unreadable = unreadable

    def __call__(self, leaf: int, stored: bytes) -> IndexRow:
        entry = entry_pb2.Entry.FromString(stored)
        row: Fields = {"order_tag": None}
        read = _READERS.get(entry.type)
        if read is not None:
            message_class, fields = read
            message = message_class.FromString(entry.value)
            row |= fields(message)
            if fields is _of_binding and message.HasField("secrets"):
                row["order_tag"] = self._order_tag(message)
                row["bucket"] = message.secrets.key_id if row["order_tag"] else ""
        return IndexRow(
            leaf,
            entry.event_id,
            entry.type,
            entry.time.seconds * 1000 + entry.time.nanos // 1_000_000,
            **row,
        )

    def _order_tag(self, message: Any) -> bytes | None:
        fact = message.fact
        sealed = Sealed(message.secrets.key_id, message.secrets.box)
        try:
            place = associated("binding-event", fact.tenant, fact.binding, fact.aggregate_version)
            secrets = binding.BindingSecrets.FromString(self._sealer.open(sealed, place))
            return self._tagger.order(fact.tenant, secrets.order_id) if secrets.order_id else None
        except KeyDestroyed:
            return None
        except (SealBroken, DecodeError, ValueError):  # ValueError: no tenant can be named so
            self._unreadable()
            return None


def _of_pool(message: Any) -> Fields:
    return {"tenant": _tenant(message.pool.name)}


def _of_tenant(message: Any) -> Fields:
    return {"tenant": message.tenant}


def _of_register(message: Any) -> Fields:
    return {"tenant": message.fact.tenant}


def _of_leases(message: Any) -> Fields:
    numbers = _numbers(*[lease.number for lease in message.leases])
    return {"tenant": _tenant(message.pool), "numbers": numbers}


def _of_number(message: Any) -> Fields:
    number = message.number
    return {
        "tenant": _tenant(number.pool),
        "numbers": _numbers(number.name.removeprefix("numbers/")),
    }


def _of_binding(message: Any) -> Fields:
    fact = message.fact
    return {"tenant": fact.tenant, "binding": fact.binding, "numbers": _numbers(fact.number)}


def _of_retention(message: Any) -> Fields:
    return {"tenant": message.tenant}


def _of_purge(message: Any) -> Fields:
    return {"tenant": message.tenant, "purged": message.bucket}


def _of_hold(message: Any) -> Fields:
    return {"tenant": message.hold.name.split("/")[1] if "/" in message.hold.name else ""}


def _of_decision(message: Any) -> Fields:
    call = f"{message.fact.carrier}/{message.fact.call_id}"
    return {"call": call, **_behind(message)}


def _of_progress(message: Any) -> Fields:
    return {"call": f"{message.fact.carrier}/{message.fact.call_id}"}


def _of_record(message: Any) -> Fields:
    return {"call": f"{message.carrier}/{message.call_id}", **_behind(message)}


def _behind(message: Any) -> Fields:
    return {
        "tenant": message.binding.tenant,
        "binding": message.binding.binding,
        "numbers": _numbers(message.number),
    }


def _tenant(pool: str) -> str:
    """The tenant in `tenants/{tenant}/pools/{pool}`."""
    parts = pool.split("/")
    return parts[1] if len(parts) == 4 and parts[0] == "tenants" else ""


def _numbers(*candidates: str) -> tuple[str, ...]:
    """Those that are middle numbers: a real one that strayed in must not be searchable."""
    return tuple(number for number in candidates if NUMBER.fullmatch(number))


_READERS: Final[Mapping[str, tuple[Any, Callable[[Any], Fields]]]] = {
    message.DESCRIPTOR.full_name: (message, fields)
    for message, fields in (
        (allocator.PoolCreated, _of_pool),
        (allocator.BlockRegistered, _of_tenant),
        (allocator.NumbersLeased, _of_leases),
        (allocator.NumberChanged, _of_number),
        (binding.BindingCreated, _of_binding),
        (binding.BindingUpdated, _of_binding),
        (binding.BindingReleased, _of_binding),
        (binding.BucketPurged, _of_purge),
        (binding.SubjectRestricted, _of_retention),
        (binding.SubjectExported, _of_retention),
        (binding.LegalHoldChanged, _of_hold),
        (binding.LegalHoldEnded, _of_retention),
        (binding.ConsentGranted, _of_register),
        (binding.ConsentWithdrawalRequested, _of_register),
        (binding.ConsentWithdrawn, _of_register),
        (binding.ConsentDrained, _of_register),
        (binding.ConsentPolicyChanged, _of_tenant),
        (router.CallRouted, _of_decision),
        (router.CallRefused, _of_decision),
        (router.CallProgressed, _of_progress),
        (router.CallRecorded, _of_record),
    )
}
