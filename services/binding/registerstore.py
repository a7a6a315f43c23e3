"""Registers in a cell on Redis or Valkey: see registers.py and store/registers.lua.

Refuses to look into a record. Invariant: version, mark, indexes, request id and outbox entry of a
register change in one function, and only from the version that the caller has seen.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from axbridge.binding.v1 import events_pb2

from services.binding.domain import Answered
from services.binding.ports import Answer, Taken
from services.binding.registers import Kind, Place, Register, RegisterRecords, place_of
from services.binding.replies import answer, applied, decoding, unreadable
from services.runtime.cell import Argument, Cell

ANY: Final = "*"  # whatever mark stands
# Where the marks of each kind stand.
_MARKS: Final[dict[Kind, str]] = {
    "consent": "consents", "consent-policy": "consents", "blacklist": "blacklist",
}  # fmt: skip


class Raw(NamedTuple):
    """A register as stored. `sequence`: what to wait for before Kafka has it, 0: it has."""

    place: Place
    version: int
    state: events_pb2.StateRecord
    sequence: int
    mark: str
    field: bytes
    tag: str

    def __repr__(self) -> str:
        return f"<Raw {self.place}>"


class CellRegisters:
    """The registers of one cell."""

    def __init__(self, cell: Cell, records: RegisterRecords) -> None:
        self._cell = cell
        self._records = records

    async def answered(self, tenant: str, request_id: str) -> Answer | None:
        """See ports.Bindings."""
        key = self._cell.key("request", tenant, request_id)
        known = (await self._cell.call("answered", [key]))[1]
        return answer(known) if known else None

    async def mark(self, kind: Kind, tenant: str, field: bytes) -> str:
        """The mark that stands for a field, or empty."""
        key = self._cell.key(_MARKS[kind], tenant)
        return (await self._cell.call("mark", [key], [field]))[1].decode()  # type: ignore[no-any-return]

    async def put(
        self, register: Register, before: int, request: Answered | None, mark: str = ANY
    ) -> int:
        """Stores and announces a version made from version `before` (0: it is new) by a request,
        or by a job, while `mark` stands; the sequence to give to `published`.

        Raises:
            Taken: the request was answered before. Lost: something has changed.
        """
        entry = self._records.entry(register.state)
        keys, args = self._applying(register, entry, before, mark, [request] if request else [])
        reply = await self._cell.call("put_register", keys, args)
        if reply[0] == b"KNOWN":
            raise Taken(answer(reply[1]))
        return applied(reply)

    async def restore(self, register: Register, epoch: bytes | None = None) -> None:
        """Puts what Kafka has, if it is newer. `epoch`: the healer's."""
        keys, args = self._applying(register, b"", 0, ANY, register.requests)
        await self._cell.call_under(epoch, "restore_register", keys, args)

    async def get(self, place: Place, epoch: bytes | None = None) -> Raw | None:
        """The register, or None where it never was or is forgotten. `epoch`: the healer's.

        Raises:
            DataLoss: what the store has of it is no register.
        """
        keys = [self.key(place), self._cell.key(_MARKS[place.kind], place.tenant)]
        reply = await self._cell.call_under(epoch, "get_register", keys)
        if not reply[1]:
            return None
        _, version, record, sequence, mark, field, tag = reply
        with decoding():
            state = events_pb2.StateRecord.FromString(record)
            if place_of(state) != place:
                raise unreadable()
            return Raw(
                place, int(version), state, int(sequence), mark.decode(), field, tag.decode()
            )

    async def page(
        self, kind: Kind, tenant: str, tag: bytes, after: str, limit: int
    ) -> Sequence[str]:
        """Ids in order of creation, behind `after`; of all of a tenant, or of one tag."""
        place = self._index(kind, tenant, tag.hex())
        _, *ids = await self._cell.call("page", [place], [after, limit])
        return [each.decode() for each in ids]

    async def due(self, limit: int) -> tuple[int, Sequence[Place]]:
        """The store's clock, and registers with something to do, the longest due first."""
        _, now, *names = await self._cell.call("due", [self._cell.key("due")], [limit])
        places = [Place.parse(name.decode()) for name in names]
        return int(now), [place for place in places if place is not None]

    async def postpone(self, place: Place, until: int) -> None:
        """Puts a register that is due off, if it is still there."""
        await self._cell.call("postpone", [self._cell.key("due")], [str(place), until])

    async def drop(self, raw: Raw, entry: bytes, epoch: bytes | None = None) -> int:
        """Drops a register that is due, and publishes its tombstones (`entry`); without an entry:
        because its tombstone was read.

        Raises:
            Lost: it has changed, or its time has not come.
        """
        keys = self._keys(raw.place, raw.tag)
        args: list[Argument] = [raw.place.id, raw.version, entry, raw.field, str(raw.place)]
        return applied(await self._cell.call_under(epoch, "drop_register", keys, args))

    async def republish(self, place: Place, version: int, entry: bytes, epoch: bytes | None) -> int:
        """Publishes what stands once more, if it is still at the version (0: there is none)."""
        reply = await self._cell.call_under(epoch, "republish", [self.key(place)], [version, entry])
        return int(reply[1]) if reply[0] == b"OK" else 0

    async def published(self, sequence: int, seconds: float) -> None:
        """See ports.Bindings."""
        if sequence:
            await self._cell.published(sequence, seconds)

    def key(self, place: Place) -> str:
        """The key of a register."""
        return self._cell.key("register", str(place))

    def _applying(
        self,
        register: Register,
        entry: bytes,
        before: int,
        mark: str,
        requests: Sequence[Answered],
    ) -> tuple[list[str], list[Argument]]:
        place = register.place
        keys = self._keys(place, register.tag.hex())
        keys += (self._cell.key("request", place.tenant, r.request_id) for r in requests)
        return keys, [
            place.id,
            register.version,
            register.state.SerializeToString(),
            entry,
            before,
            register.field,
            register.mark,
            mark,
            "" if register.due_ms is None else register.due_ms,
            str(place),
            register.tag.hex(),
            *(part for each in requests for part in (each.body_hash, each.time_ms)),
        ]

    def _keys(self, place: Place, tag: str) -> list[str]:
        kind, tenant, _ = place
        return [
            self.key(place),
            self._cell.key(_MARKS[kind], tenant),
            self._cell.key("due"),
            self._index(kind, tenant, ""),
            self._index(kind, tenant, tag),
        ]

    def _index(self, kind: Kind, tenant: str, tag: str) -> str:
        return self._cell.key("by", kind, tenant, tag or "all")
