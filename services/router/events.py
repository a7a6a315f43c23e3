"""Makes the events of `router.calls.v1` of what stands in a journal, in the process that ships it.

The caller's number goes into the evidence copy and its tag into the sealed part; both are bound to
the event. Refuses to keep a caller whose tenant is not known: there is no key to seal it under.
Invariant: nothing in an event's clear part says who called.
"""

from typing import Final, Protocol

from axbridge.router.v1 import events_pb2

from services.router.packed import JournalCipher, Packed, unpack, unreadable
from services.router.segments import (
    CALLED,
    MESSAGE_REFUSED,
    MESSAGE_ROUTED,
    PROGRESSED,
    REFUSED,
    ROUTED,
    Item,
)
from services.router.translate import write_duration, write_timestamp
from services.runtime.keyring import KeyDestroyed, KeyRing
from services.runtime.sealing import associated

_KEPT: Final = 256  # ciphers of journals: live ones and those that are left over


class Sealer(Protocol):
    """`opener.CallerSealer`."""

    def seal(
        self, tenant: str, time_ms: int, caller: str, tag: bytes, *, call: bytes, event: bytes
    ) -> tuple[str, bytes]: ...


class JournalEvents:
    """Opens the items of any journal of this pod."""

    def __init__(self, keyring: KeyRing, sealer: Sealer) -> None:
        self._keyring, self._seal = keyring, sealer.seal
        self._ciphers: dict[str, JournalCipher] = {}

    def value(self, journal: str, item: Item) -> bytes:
        """The event's octets: for one item the same every time, but for the evidence copy and what
        is sealed around it, where the evidence writer's key has changed meanwhile.

        Raises:
            Unreadable: the item was not written to this place of this journal.
        """
        if item.kind in (PROGRESSED, CALLED):  # nothing of them is under the journal's key
            return item.value
        opened = self._cipher(journal).open(item.sequence, item.value, item.key)
        message = b""
        if item.kind in (MESSAGE_ROUTED, MESSAGE_REFUSED):
            message, opened = opened[:2], opened[2:]
        packed = unpack(opened)
        if message:
            kind = MESSAGE_REFUSED if packed.reason else MESSAGE_ROUTED
        else:
            kind = REFUSED if packed.reason else ROUTED
        if (kind, packed.time_ms) != (item.kind, item.time_ms):
            raise unreadable()
        return self._event(journal, item, packed, message)

    def _cipher(self, journal: str) -> JournalCipher:
        cipher = self._ciphers.get(journal)
        if cipher is None:
            if len(self._ciphers) >= _KEPT:
                self._ciphers.clear()
            cipher = self._ciphers[journal] = JournalCipher(self._keyring, journal)
        return cipher

    def _event(self, journal: str, item: Item, packed: Packed, message: bytes) -> bytes:
        event: events_pb2.CallRouted | events_pb2.CallRefused
        if packed.reason:
            event = events_pb2.CallRefused()
            event.reason = packed.reason  # type: ignore[assignment]
            event.q850_cause = packed.cause
        else:
            event = events_pb2.CallRouted()
            event.calling_side = packed.calling_side  # type: ignore[assignment]
            if packed.max_call_minutes:
                event.max_duration.seconds = 60 * packed.max_call_minutes
        carrier, _, call_id = item.key.decode().partition("/")
        fact = event.fact
        fact.carrier, fact.call_id = carrier, call_id
        fact.journal, fact.journal_sequence = journal, item.sequence
        write_timestamp(fact.time, packed.time_ms)
        if message:
            event.message.encoding, event.message.parts = message  # type: ignore[assignment]
        event.verdict = packed.verdict  # type: ignore[assignment]
        event.number = packed.number
        event.trunk = packed.trunk
        write_duration(event.view_age, packed.age_ms)
        if packed.tenant:
            binding = event.binding
            binding.tenant, binding.binding = packed.tenant, packed.binding
            binding.version, binding.industry_id = packed.version, packed.industry_id
            if packed.caller:
                self._add_secrets(event, packed)
        return event.SerializeToString()

    def _add_secrets(
        self, event: events_pb2.CallRouted | events_pb2.CallRefused, packed: Packed
    ) -> None:
        fact = event.fact
        try:
            key_id, box = self._seal(
                packed.tenant, packed.time_ms, packed.caller, packed.tag,
                call=caller_associated(fact.carrier, fact.call_id),
                event=event_associated(
                    fact.carrier, fact.call_id, fact.journal, fact.journal_sequence
                ),
            )  # fmt: skip
        except KeyDestroyed:  # so late that it would have been erased: the rest is still a fact
            return
        event.secrets.key_id, event.secrets.box = key_id, box


def caller_associated(carrier: str, call_id: str) -> bytes:
    """What the evidence copy of a caller is bound to: its call, so that the record takes it over
    from the event as it is."""
    return associated("call-caller", carrier, call_id)


def event_associated(carrier: str, call_id: str, journal: str, sequence: int) -> bytes:
    """What the sealed part of a call event is bound to."""
    return associated("call-event", carrier, call_id, journal, sequence)
