"""The view in memory: the fold on dictionaries, with positions, behind the ports of writer and
reader. Its answers are the contract that LMDB's are compared with."""

from collections.abc import Mapping, Sequence

from services.router import denials, view
from services.router.entries import unpack_entry
from services.router.lastcalls import with_last_caller
from services.router.ports import Found, PartyTagger
from services.router.store import Applied
from services.router.view import Copy
from services.runtime.record import Record
from tests.unit.router.routes import MemoryTables


class MemoryView:
    """Writer and reader in one."""

    def __init__(self, tagger: PartyTagger) -> None:
        self.tables = MemoryTables()
        self._tagger, self._positions, self._fresh_ms = tagger, dict[tuple[str, int], int](), 0

    def positions(self) -> Mapping[tuple[str, int], int]:
        return self._positions

    def apply(
        self, items: Sequence[tuple[Record, Applied]], positions: Mapping[tuple[str, int], int]
    ) -> None:
        for record, change in items:
            if record.offset >= self._positions.get((record.topic, record.partition), 0):
                denials.apply(self.tables, change)
        self._positions.update(positions)

    def tick(self, fresh_at: float) -> None:
        self._fresh_ms = int(fresh_at * 1000) or self._fresh_ms

    def fresh_ms(self) -> int:
        return self._fresh_ms

    @property
    def denying(self) -> set[str]:
        return {name.decode() for name in self.tables.tables.get(denials.DENYING, {})}

    def denied(self, number: str, tenant: str, tag: bytes, callee: str, now_ms: int) -> bool:
        whom = self._tagger.party(tenant, callee)
        return denials.denied(self.tables.get, number, tenant, tag, whom, now_ms)

    def wrapped(self, key_id: str) -> Copy | None:
        value = self.tables.get(view.KEYS, key_id.encode())
        if value is None:
            return None
        name, _, box = value.partition(b"\n")
        return Copy(name.decode(), box)

    def find(self, number: str, caller: str, extension: str = "") -> Found:
        block = self.tables.get(view.BLOCKS, number[:11].encode()) or b""
        names = tuple(name for name, _ in view.tenants(block))
        tags = [self._tagger.party(tenant, caller) for tenant in names] if caller else []
        nobody = Found(names, names[0] if names else "", tags[0] if tags else b"", None)
        places = [(nobody, extension.encode())] if extension else []
        places += [
            (Found(names, tenant, tag, None), tag) for tenant, tag in zip(names, tags, strict=False)
        ]
        for found, who in [*places, (nobody, view.ANYONE)]:
            slot = self.tables.get(view.SLOTS, view.slot_key(number, who))
            if slot:
                entry = unpack_entry(slot)
                if entry.mode == 4 and entry.caller_side:
                    entry = with_last_caller(self.tables.get, number, entry)
                return found.led_to(entry)
        asks = self.tables.get(view.BLOCKS, number.encode()) is not None
        return nobody._replace(extensions=asks)

    def close(self) -> None:
        """Nothing to close."""
