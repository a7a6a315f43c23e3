"""What an entry of a blacklist is, and what may become of it. Pure.

Refuses to know real numbers: whom it names are blind tags. Invariant: an entry holds until its
expiry or its removal, whichever comes first, and never again; of two entries of one target the
later one stands, and it is made only when the earlier one is over.
"""

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Final, NamedTuple

from services.binding.domain import REMEMBERED_MS, Answered

LONGEST_MS: Final = 1827 * REMEMBERED_MS  # five years, as consents


class Kind(IntEnum):
    """What an entry names; numbered as in the proto."""

    NUMBER = 1
    PAIR = 2


class EntryState(IntEnum):
    """Numbered as in the proto."""

    ACTIVE = 1
    REMOVED = 2
    EXPIRED = 3


class Target(NamedTuple):
    """Whom an entry holds for: the caller's blind tag, whom he may not call (empty: anybody), and
    the pool (empty: all of the tenant)."""

    caller: bytes
    callee: bytes
    pool: str

    @property
    def kind(self) -> Kind:
        """A number, or a pair."""
        return Kind.PAIR if self.callee else Kind.NUMBER

    @property
    def field(self) -> bytes:
        """As store/barred.lua looks it up."""
        return b"sp"[self.kind - 1 : self.kind] + self.caller + self.callee + self.pool.encode()

    def __repr__(self) -> str:
        return f"<Target {self.kind.name} {self.pool}>"


class Mark(NamedTuple):
    """What a create is judged by. `create_ms` ranks the marks of one target."""

    create_ms: int
    expire_ms: int
    entry: str

    def __str__(self) -> str:
        return f"{self.create_ms}:{self.expire_ms}:{self.entry}"

    @classmethod
    def parse(cls, text: str) -> "Mark":
        """What `str` made."""
        create, expire, entry = text.split(":")
        return cls(int(create), int(expire), entry)


@dataclass(frozen=True, slots=True, repr=False)
class Entry:
    """An entry at one version. Times are milliseconds since 1970; 0: not yet."""

    tenant: str
    id: str
    target: Target
    create_ms: int
    expire_ms: int
    requests: tuple[Answered, ...]
    version: int = 1
    state: EntryState = EntryState.ACTIVE
    end_ms: int = 0

    def __repr__(self) -> str:
        return f"<Entry {self.id} version {self.version} {self.state.name}>"

    @property
    def active(self) -> bool:
        """Not ended; it may be past its expiry."""
        return self.state is EntryState.ACTIVE

    @property
    def due_ms(self) -> int:
        """When there is something to do: it expires, or is forgotten."""
        return self.expire_ms if self.active else self.end_ms + REMEMBERED_MS

    @property
    def mark(self) -> str:
        """See Mark; empty once it has ended."""
        return str(Mark(self.create_ms, self.expire_ms, self.id)) if self.active else ""

    def seen(self, now: int) -> EntryState:
        """Its state as shown: it ends by time, whenever that is written down."""
        over = self.active and self.expire_ms <= now
        return EntryState.EXPIRED if over else self.state

    def ended(self, now: int) -> "Entry":
        """The entry, ended: by whoever asks, or because its time is over."""
        state = EntryState.EXPIRED if self.expire_ms <= now else EntryState.REMOVED
        return replace(self, version=self.version + 1, state=state, end_ms=now)
