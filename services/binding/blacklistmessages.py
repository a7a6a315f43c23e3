"""Entries of blacklists as the messages that are published and stored, and back. Pure but for the
purge bucket's key.

Refuses to let a tag into the clear part of an event. Invariant: nothing is lost on the way there
and back, and routers have a denial of an entry exactly while it is active.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from axbridge.binding.v1 import blacklist_pb2, events_pb2

from services.binding.blacklist import Entry, EntryState, Target
from services.binding.messages import answered_messages, answered_of, millis, sealed, timestamp
from services.binding.registers import Place, Register
from services.runtime.sealing import PurgeSealer, Sealed, associated


class BlacklistMessages:
    """To and from registers."""

    def __init__(self, sealer: PurgeSealer) -> None:
        self._sealer = sealer

    @property
    def openers(self) -> Mapping[str, Callable[[events_pb2.StateRecord], Register]]:
        """What makes a register of a state."""
        return {"blacklist_entry": self.restored}

    def register(self, entry: Entry) -> Register:
        """The entry, sealed, with its mark."""
        target = entry.target
        secrets = events_pb2.BlacklistSecrets(caller_tag=target.caller, callee_tag=target.callee)
        box = self._sealer.seal(
            entry.tenant,
            # One bucket for all versions of an entry: what was removed early opens as long.
            datetime.fromtimestamp(entry.expire_ms / 1000, UTC),
            secrets.SerializeToString(),
            _bound(entry.tenant, entry.id, entry.version),
        )
        record = events_pb2.BlacklistRecord(
            fact=_fact(entry),
            secrets=sealed(box),
            state=blacklist_pb2.BlacklistEntryState.ValueType(entry.state),
            end_time=timestamp(entry.end_ms),
            requests=answered_messages(entry.requests),
            denial=_denial(entry) if entry.active else None,
        )
        return _register(entry, events_pb2.StateRecord(blacklist_entry=record))

    def restored(self, state: events_pb2.StateRecord) -> Register:
        """The register that a state is of. Raises KeyDestroyed and SealBroken."""
        return _register(self.entry(state.blacklist_entry), state)

    def entry(self, record: events_pb2.BlacklistRecord) -> Entry:
        """The entry, opened. Raises KeyDestroyed and SealBroken."""
        fact = record.fact
        plain = self._sealer.open(
            Sealed(record.secrets.key_id, record.secrets.box),
            _bound(fact.tenant, fact.entry, fact.aggregate_version),
        )
        secrets = events_pb2.BlacklistSecrets.FromString(plain)
        return Entry(
            tenant=fact.tenant,
            id=fact.entry,
            target=Target(secrets.caller_tag, secrets.callee_tag, fact.pool),
            create_ms=millis(fact.create_time),
            expire_ms=millis(fact.expire_time),
            requests=answered_of(record.requests),
            version=fact.aggregate_version,
            state=EntryState(record.state),
            end_ms=millis(record.end_time),
        )


def entry_place(tenant: str, entry: str) -> Place:
    """Where an entry is kept."""
    return Place("blacklist", tenant, entry)


def _register(entry: Entry, state: events_pb2.StateRecord) -> Register:
    place, target = entry_place(entry.tenant, entry.id), entry.target
    return Register(
        place, entry.version, state, target.caller, target.field, entry.mark, entry.due_ms,
        entry.requests,
    )  # fmt: skip


def _fact(entry: Entry) -> events_pb2.BlacklistFact:
    return events_pb2.BlacklistFact(
        tenant=entry.tenant,
        entry=entry.id,
        aggregate_version=entry.version,
        pool=entry.target.pool,
        kind=blacklist_pb2.BlacklistKind.ValueType(entry.target.kind),
        create_time=timestamp(entry.create_ms),
        expire_time=timestamp(entry.expire_ms),
    )


def _denial(entry: Entry) -> events_pb2.Denial:
    return events_pb2.Denial(
        tenant=entry.tenant,
        entry=entry.id,
        version=entry.version,
        pool=entry.target.pool,
        caller_tag=entry.target.caller,
        callee_tag=entry.target.callee,
        expire_time=timestamp(entry.expire_ms),
    )


def _bound(tenant: str, entry: str, version: int) -> bytes:
    return associated("blacklist-event", tenant, entry, version)
