"""Reads out of a leaf what the index shall know of it.

Opens the sealed part of an event for two things, the tags of real numbers that lie in it and the
order id, of which it gives on only the blind tag. Refuses to fail: a leaf whose sealed part cannot
be opened is indexed without tags. Invariant: no real number, order id or other personal value
leaves here in clear.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from axbridge.allocator.v1 import events_pb2 as allocator
from axbridge.audit.v1 import entry_pb2
from axbridge.audit.v1 import events_pb2 as audit
from axbridge.binding.v1 import binding_pb2
from axbridge.binding.v1 import events_pb2 as binding
from axbridge.router.v1 import events_pb2 as router
from google.protobuf.message import DecodeError

from services.audit.domain import NUMBER, IndexRow
from services.audit.tracing import Moment
from services.runtime.keyring import KeyDestroyed
from services.runtime.sealing import PurgeSealer, SealBroken, Sealed, Tagger, associated

Fields = dict[str, Any]
# Modes in which only the parties may call: UNSPECIFIED, AXB and AXYB.
_CLOSED: Final = (0, binding_pb2.BINDING_MODE_AXB, binding_pb2.BINDING_MODE_AXYB)
# The events that carry a binding's terms.
TERMS: Final = tuple(
    message.DESCRIPTOR.full_name
    for message in (binding.BindingCreated, binding.BindingUpdated, binding.BindingReleased)
)


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
        row: Fields = {}
        read = _READERS.get(entry.type)
        if read is not None:
            message_class, fields = read
            message = message_class.FromString(entry.value)
            row |= fields(message)
            box = _BOXES.get(fields)
            if box is not None and message.HasField("secrets"):
                row |= self._opened(message, box, row["tenant"])
        return IndexRow(leaf, entry.event_id, entry.type, _ms(entry.time), **row)

    def _opened(self, message: Any, box: "_Box", tenant: str) -> Fields:
        sealed = Sealed(message.secrets.key_id, message.secrets.box)
        try:
            secrets = box.secrets.FromString(self._sealer.open(sealed, box.place(message)))
            order = getattr(secrets, "order_id", "")
            order_tag = self._tagger.order(tenant, order) if order else None
        except KeyDestroyed:
            return {}
        except (SealBroken, DecodeError, ValueError):  # ValueError: no tenant can be named so
            self._unreadable()
            return {}
        tags = {getattr(secrets, name) for name in box.tags} - {b""}
        bucket = sealed.key_id if tags or order_tag else ""
        return {"order_tag": order_tag, "parties": tuple(sorted(tags)), "bucket": bucket}


def moment_of(stored: bytes) -> Moment:
    """What a leaf of TERMS says of its binding."""
    entry = entry_pb2.Entry.FromString(stored)
    fact = _READERS[entry.type][0].FromString(entry.value).fact
    ended = entry.type == binding.BindingReleased.DESCRIPTOR.full_name
    is_open = fact.mode not in _CLOSED
    return Moment(_ms(fact.options.start_time), _ms(fact.expire_time), ended, is_open)


@dataclass(frozen=True, slots=True)
class _Box:
    """A kind of sealed part: its message, the fields of it that are tags, what it is bound to."""

    secrets: Any
    tags: tuple[str, ...]
    place: Callable[[Any], bytes]


def _ms(time: Any) -> int:
    return int(time.seconds * 1000 + time.nanos // 1_000_000)


def _of_pool(message: Any) -> Fields:
    return {"tenant": _tenant(message.pool.name)}


def _of_tenant(message: Any) -> Fields:
    return {"tenant": message.tenant}


def _of_consent(message: Any) -> Fields:
    return {"tenant": message.fact.tenant}


def _of_entry(message: Any) -> Fields:
    return {"tenant": message.fact.tenant}


def _of_block(message: Any) -> Fields:
    return {"tenant": _tenant(message.block.pool)}


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
    ended = message.DESCRIPTOR is binding.BindingReleased.DESCRIPTOR
    until = message.release_time if ended else fact.expire_time
    return {
        "tenant": fact.tenant,
        "binding": fact.binding,
        "numbers": _numbers(fact.number, fact.second_number),
        "until_ms": _ms(until),
        "ended": ended,
    }


def _of_erasure(message: Any) -> Fields:
    return {"tenant": message.tenant}


def _of_export(message: Any) -> Fields:
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


def _of_reconciled(message: Any) -> Fields:
    call = message.call
    return {
        "call": f"{message.fact.carrier}/{call.call_id}",
        "tenant": call.tenant,
        "binding": call.binding,
        "numbers": _numbers(call.number),
    }


def _of_day(message: Any) -> Fields:
    return {}


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
        (allocator.BlockChanged, _of_block),
        (allocator.NumbersLeased, _of_leases),
        (allocator.NumberChanged, _of_number),
        (binding.BindingCreated, _of_binding),
        (binding.BindingUpdated, _of_binding),
        (binding.BindingReleased, _of_binding),
        (binding.BucketPurged, _of_purge),
        (binding.SubjectRestricted, _of_erasure),
        (binding.SubjectExported, _of_export),
        (binding.LegalHoldChanged, _of_hold),
        (binding.LegalHoldEnded, _of_tenant),
        (binding.ConsentGranted, _of_consent),
        (binding.ConsentWithdrawalRequested, _of_consent),
        (binding.ConsentWithdrawn, _of_consent),
        (binding.ConsentDrained, _of_consent),
        (binding.ConsentErased, _of_consent),
        (binding.ConsentPolicyChanged, _of_tenant),
        (binding.BlacklistEntryAdded, _of_entry),
        (binding.BlacklistEntryRemoved, _of_entry),
        (router.CallRouted, _of_decision),
        (router.CallRefused, _of_decision),
        (router.CallProgressed, _of_progress),
        (router.CallRecorded, _of_record),
        (audit.CallMissing, _of_reconciled),
        (audit.CallExtra, _of_reconciled),
        (audit.CallDiffers, _of_reconciled),
        (audit.DayReconciled, _of_day),
    )
}

_BOXES: Final[Mapping[Callable[[Any], Fields], _Box]] = {
    _of_binding: _Box(
        binding.BindingSecrets,
        ("tag_a", "tag_b"),
        lambda message: associated(
            "binding-event",
            message.fact.tenant,
            message.fact.binding,
            message.fact.aggregate_version,
        ),
    ),
    _of_consent: _Box(
        binding.ConsentSecrets,
        ("tag",),
        lambda message: associated(
            "consent-event",
            message.fact.tenant,
            message.fact.consent,
            message.fact.aggregate_version,
        ),
    ),
    _of_entry: _Box(
        binding.BlacklistSecrets,
        ("caller_tag", "callee_tag"),
        lambda message: associated(
            "blacklist-event",
            message.fact.tenant,
            message.fact.entry,
            message.fact.aggregate_version,
        ),
    ),
    _of_erasure: _Box(
        binding.SubjectSecrets,
        ("tag",),
        lambda message: associated("erasure", message.tenant, message.erasure),
    ),
    _of_export: _Box(
        binding.SubjectSecrets,
        ("tag",),
        lambda message: associated("export", message.tenant, message.export),
    ),
    _of_decision: _Box(
        router.CallSecrets,
        ("caller_tag",),
        lambda message: associated(
            "call-event",
            message.fact.carrier,
            message.fact.call_id,
            message.fact.journal,
            message.fact.journal_sequence,
        ),
    ),
    _of_record: _Box(
        router.CallSecrets,
        ("caller_tag",),
        lambda message: associated(
            "call-record", message.carrier, message.call_id, message.sequence
        ),
    ),
}
