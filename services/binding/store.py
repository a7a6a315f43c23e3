"""Bindings in a cell on Redis or Valkey; implements ports.Bindings.

Each write is one Lua function (store/*.lua), in which state, indexes, request id and outbox entry
change together. Refuses to put a real number or a clear order id into a key: tags only. Invariant:
the record of a version is built from the one before it, and applied only if that still stands.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple

from axbridge.binding.v1 import events_pb2

from services.binding import places
from services.binding.barriers import Barriers
from services.binding.domain import Binding, Lease, Mode
from services.binding.messages import Copies, binding_of, from_record, route_of
from services.binding.places import Places
from services.binding.ports import Answer, Index, LeaseRefused, Stored, Taken
from services.binding.records import Records
from services.binding.replies import answer, applied, decoding, refuse
from services.binding.routekeys import RouteKeys
from services.binding.vault import Vault
from services.runtime.cell import Argument, Cell, library
from services.runtime.clock import Clock
from services.runtime.phone import PhoneNumber

_LUA: Final = Path(__file__).parent / "store"
SERVICE: Final = "binding"
_PARTS: Final = ("apply", "barred", "commands", "many", "reads", "keys", "ledger", "registers")
LIBRARY: Final = library(SERVICE, [_LUA / f"{part}.lua" for part in _PARTS])


class Sealings(NamedTuple):
    """What the store keeps beside a binding, inside `Stored.sealed`."""

    copies: Copies
    order_tag: str


class Put(NamedTuple):
    """The keys and arguments that every function which applies a binding takes."""

    keys: list[str]
    args: list[Argument]


class CellBindings:
    """The bindings of one cell."""

    def __init__(
        self, cell: Cell, records: Records, vault: Vault, keys: RouteKeys, clock: Clock
    ) -> None:
        self._cell = cell
        self._records = records
        self._vault = vault
        self._keys = keys
        self._clock = clock
        self.places = Places(cell)
        self._barriers = Barriers(cell)
        self.consented = self._barriers.consented

    async def answered(self, tenant: str, request_id: str) -> Answer | None:
        """See ports.Bindings."""
        known = (await self._cell.call("answered", [self.places.request(tenant, request_id)]))[1]
        return answer(known) if known else None

    async def create(
        self,
        binding: Binding,
        a: PhoneNumber,
        b: PhoneNumber | None,
        order_tag: bytes,
        lease: Lease,
    ) -> int:
        """See ports.Bindings."""
        route = await self._keys.get(self.route_key_id(binding))
        put = self._put(binding, self._vault.seal_new(binding, a, b, route), order_tag.hex())
        tenant, request = binding.tenant, binding.requests[0]
        put.keys.extend(
            (self.places.request(tenant, request.request_id), *self._barriers.keys(tenant))
        )
        put.args.extend((request.body_hash, lease.deadline_ms, *self._barriers.args(binding)))
        put.args.append(int(lease.sticky))
        reply = await self._cell.call("create", *put)
        if reply[0] == b"OK":
            return int(reply[1])
        if reply[0] == b"KNOWN":
            raise Taken(answer(reply[1]))
        if reply[0] == b"CHANGED":
            raise self._barriers.changed(binding.tenant)
        refuse(reply)
        raise LeaseRefused(reply[0].decode(), reply[1].decode() if reply[1:] else binding.number)

    async def extension(self, binding: Binding, digits: int, start: int) -> str | None:
        """See ports.Bindings."""
        key = self.places.tags(binding.number)
        return (await self._cell.call("extension", [key], [digits, start]))[1].decode() or None

    async def get(self, binding: str) -> Stored | None:
        """See ports.Bindings."""
        _, record, order_tag, sequence = await self._cell.call(
            "get", [self.places.binding(binding)]
        )
        return self.stored(record, order_tag, int(sequence)) if record else None

    def stored(self, record: bytes, order_tag: bytes, sequence: int = 0) -> Stored:
        """A stored record, opened as far as binding may. Raises DataLoss, KeyDestroyed."""
        with decoding():
            message = events_pb2.BindingRecord.FromString(record)
            opened = self._vault.open(message)
            binding, copies = from_record(message, opened.order_id, opened.customer_data)
            copies = Copies(copies.callee_a, copies.callee_b, opened.evidence, copies.secrets)
            return Stored(binding, sequence, Sealings(copies, order_tag.decode()))

    async def change(self, old: Stored, new: Binding, b: PhoneNumber | None = None) -> int:
        """See ports.Bindings."""
        put = await self.again(old, new, b=b)
        put.args.append(old.binding.version)
        request = new.requests[-1]
        if request.version == new.version:  # else it was no request that changed it
            put.keys.append(self.places.request(new.tenant, request.request_id))
            put.args.append(request.body_hash)
            if b is not None and new.terms.mode is Mode.AXB:  # a B that is here to stay
                put.keys.extend(self._barriers.keys(new.tenant))
                put.args.extend(self._barriers.args(new))
        reply = await self._cell.call("change", *put)
        if reply[0] == b"KNOWN":
            raise Taken(answer(reply[1]))
        if reply[0] == b"CHANGED":
            raise self._barriers.changed(new.tenant)
        refuse(reply)
        return applied(reply)

    async def release(self, old: Stored, new: Binding) -> int:
        """See ports.Bindings."""
        put = await self.again(old, new)
        put.args.extend((old.binding.version, 0))
        return applied(await self._cell.call("release", *put))

    async def live(
        self, tenant: str, tag: bytes, after: str, limit: int
    ) -> tuple[Sequence[str], str]:
        """See ports.Swept."""
        ids = await self.page(tenant, Index("party", tag.hex()), after, limit)
        if not ids:
            return [], ""
        _, *marks = await self._cell.call("live", [self.places.binding(each) for each in ids])
        live = [each for each, mark in zip(ids, marks, strict=True) if mark == b"1"]
        return live, ids[-1] if len(ids) == limit else ""

    async def page(self, tenant: str, index: Index, after: str, limit: int) -> Sequence[str]:
        """See ports.Bindings."""
        place = self.places.index(tenant, index.kind, index.value)
        _, *ids = await self._cell.call("page", [place], [after, limit])
        return [each.decode() for each in ids]

    async def due(self, what: Literal["expiry", "forget"], limit: int) -> tuple[int, Sequence[str]]:
        """See ports.Sweeps."""
        _, now, *ids = await self._cell.call("due", [self._cell.key(what)], [limit])
        return int(now), [each.decode() for each in ids]

    async def postpone(self, what: Literal["expiry", "forget"], binding: str, until: int) -> None:
        """See ports.Sweeps."""
        await self._cell.call("postpone", [self._cell.key(what)], [binding, until])

    async def published(self, sequence: int, seconds: float) -> None:
        """See ports.Bindings."""
        if sequence:
            await self._cell.published(sequence, seconds)

    async def again(
        self, old: Stored, new: Binding, epoch: bytes | None = None, b: PhoneNumber | None = None
    ) -> Put:
        """What applies another version of a binding. `epoch`: the healer's."""
        if not new.live:
            return self.ended(old, new)
        copies, order_tag = _sealings(old)
        assert copies.callee_a is not None
        before = await self._keys.get(copies.callee_a.key_id, epoch)
        after = await self._keys.get(self.route_key_id(new), epoch)
        return self._put(
            new, self._vault.seal_again(old.binding, copies, new, before, after, b), order_tag
        )

    def ended(self, old: Stored, new: Binding) -> Put:
        """What applies the end of a binding."""
        copies, order_tag = _sealings(old)
        return self._put(new, self._vault.seal_ended(new, copies), order_tag)

    def same(self, stored: Stored) -> bytes:
        """The outbox entry that announces the version that stands, once more."""
        return self._records.entry(stored.binding, *_sealings(stored))[1]

    def route(self, stored: Stored, number: str = "") -> events_pb2.Route:
        """The route of the version that stands, on one of its numbers."""
        return route_of(stored.binding, _sealings(stored).copies, number)

    def bare(self, binding: Binding) -> Put:
        """What applies a binding of which only the route is known."""
        return self._put(binding, Copies(None, None, None, None), "")

    def restored(
        self, message: events_pb2.BindingRecord, order_tag: Callable[[Binding], str]
    ) -> tuple[Binding, Put]:
        """What applies a record as the state topic has it; nothing is published, or opened where
        the record itself has the order's tag."""
        record, tag = message.SerializeToString(), message.order_tag.hex()
        if tag or not message.HasField("secrets"):
            binding = binding_of(message)
        else:
            binding = self.stored(record, b"").binding
            tag = order_tag(binding)
        return binding, self._applying(binding, tag, record, b"")

    def _put(self, binding: Binding, copies: Copies, order_tag: str) -> Put:
        return self._applying(binding, order_tag, *self._records.entry(binding, copies, order_tag))

    def _applying(self, binding: Binding, order_tag: str, record: bytes, entry: bytes) -> Put:
        return Put(
            self.places.of(binding, order_tag),
            [
                binding.id,
                binding.version,
                binding.state.value,
                binding.terms.expire_ms,
                places.rest(binding),
                binding.lease_epoch,
                binding.tag_a,
                places.party_b(binding),
                binding.cool_until_ms,
                0 if binding.live else binding.forget_ms,
                record,
                entry,
                order_tag,
                places.mode(binding),
                binding.due_ms,
            ],
        )

    def dropping(self, old: Stored, entry: bytes) -> Put:
        """What drops a binding; an empty entry: because its tombstone was read."""
        b = old.binding
        keys = self.places.of(b, _sealings(old).order_tag)
        keys += (self.places.request(b.tenant, each.request_id) for each in b.requests)
        return Put(keys, [b.id, b.version, entry, b.tag_a, places.party_b(b), places.mode(b)])

    @property
    def retention_months(self) -> int:
        """How long the sealed part of a binding is kept after its end."""
        return self._vault.retention_months

    def bucket(self, binding: Binding) -> str:
        """The purge bucket that the binding's sealed part is in."""
        return self._vault.bucket(binding)

    async def overdue(self, what: Literal["expiry", "forget"], until_ms: int) -> Sequence[str]:
        """Some bindings that were due before that moment."""
        _, *ids = await self._cell.call("overdue", [self._cell.key(what)], [f"({until_ms}"])
        return [each.decode() for each in ids]

    async def restrict(self, old: Stored, new: Binding) -> int:
        """Stores and announces the erased version of a binding, ended or not.

        Raises:
            Lost: it is not at `old` any more.
        """
        put = await self.again(old, new)
        return applied(
            await self._cell.call("restrict", put.keys, [*put.args, old.binding.version])
        )

    async def purge(self, old: Stored) -> int:
        """Drops a binding whose retention is over, whatever its state, and publishes that.

        Raises:
            Lost: it is not at `old` any more.
        """
        b = old.binding
        entry = self._records.tombstones(b.numbers, b.id, b.version, self._clock.epoch_ms())
        put = self.dropping(old, entry)
        return applied(await self._cell.call("forget", put.keys, [*put.args, "purge"]))

    def route_key_id(self, binding: Binding) -> str:
        """The id of the key for the binding's route copies."""
        return self._vault.route_key_id(binding)


def _sealings(stored: Stored) -> Sealings:
    assert isinstance(stored.sealed, Sealings)
    return stored.sealed
