"""What the audit log demands of its storage, and its readers of the index. The docstrings are the
contract.

An implementation may add speed, never weaken a promise: the log's crash safety rests on exactly
these sentences. Invariant: after `write`, `replace_state` or `replace_checkpoint` returned,
losing power does not undo it; after one raised, it may have been applied in full, in part (only
`write`) or not at all, and the caller must reopen the log before it writes again.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from services.audit.domain import Filter, IndexRow

if TYPE_CHECKING:
    from services.audit.reader import StoredTree  # which reads through the ports


class StorageConflict(Exception):
    """Stored bytes are not what this writer left. Stop: someone else writes, or data is damaged."""


class TileConflict(StorageConflict):
    """A tile exists with other bytes. Tiles never change, so one of the two is wrong."""


class CheckpointMoved(StorageConflict):
    """The published checkpoint is not the expected one: another sequencer published."""


class LogLocked(Exception):
    """Another process is the sequencer of this log. Wait for it to end; never break the lock."""


class TileReader(Protocol):
    """Reads what is served to everyone. Safe from many threads and processes."""

    def read(self, path: str) -> bytes | None:
        """Whole content of a tile, or None if it does not exist. Never a part of it."""
        ...

    def read_checkpoint(self) -> bytes | None:
        """The published checkpoint, or None before the first."""
        ...


class TileStore(TileReader, Protocol):
    """The served tree of one log. One writer."""

    def write(self, files: Mapping[str, bytes]) -> None:
        """Makes all `files` (path -> content) durable; may write them in any order.

        A path that exists with the same bytes is fine (a repeat after a crash), and is as
        durable as the others on return.

        Raises:
            TileConflict: a path exists with other bytes; it is left as it is.
        """
        ...

    def replace_checkpoint(self, expected: bytes | None, new: bytes) -> None:
        """Compare-and-swap: publishes `new` if `expected` is what is published (None: nothing).

        Readers see the old or the new one, whole. Durable on return.

        Raises:
            CheckpointMoved: something else is published; nothing changed.
        """
        ...

    def drop_partials(self, folders: Iterable[str]) -> None:
        """Forgets all partial tiles in these `.p` folders. A hint: not durable, absent is fine.

        The caller knows that their full tiles are durable and covered by a checkpoint.
        """
        ...


class StateStore(Protocol):
    """The sequencer's private record. One writer, never served."""

    def read_state(self) -> bytes | None:
        """The last record replaced, whole, or None before the first."""
        ...

    def replace_state(self, new: bytes) -> None:
        """Replaces the record in one atomic, durable step."""
        ...


class EventIds(Protocol):
    """Which event ids are leaves. Derived from the log: it may lag behind, never run ahead."""

    @property
    def size(self) -> int:
        """Number of leaves whose ids have been added."""
        ...

    def find(self, ids: Sequence[bytes]) -> list[int | None]:
        """For each id its leaf index, or None if no leaf below `size` has it."""
        ...

    def add(self, first: int, ids: Sequence[bytes]) -> None:
        """Records the ids of leaves `first`, `first` + 1, and so on; `first` equals `size`.

        An id that is known keeps its first leaf. May be lost at a crash from its end backwards:
        `size` then says how far, and the caller adds the rest again.
        """
        ...


@dataclass(frozen=True, slots=True)
class Published:
    """A state of the log: the signed checkpoint, the keys it opens with, and the tree it signs."""

    note: bytes
    vkeys: tuple[str, ...]
    tree: "StoredTree"

    @property
    def vkey(self) -> str:
        """The key; of several, while the log changes them, the older one."""
        return self.vkeys[0]


class PublishedLog(Protocol):
    """What readers see of the log. Safe from many threads."""

    def published(self) -> Published:
        """The newest published state.

        Raises:
            Unavailable: LOG_EMPTY: there is no checkpoint yet.
        """
        ...

    def witnessed(self) -> Published | None:
        """The newest state that was published with enough cosignatures, which stand below its
        note; None before the first."""
        ...


class Arrivals(Protocol):
    """Tells waiting readers that the index grew."""

    def beyond(self, size: int, seconds: float) -> bool:
        """Waits until more than `size` leaves are indexed; False if that takes longer than
        `seconds` (0 or less: only looks). An index that others feed may be noticed late."""
        ...


@dataclass(frozen=True, slots=True)
class Term:
    """A binding that lived on a number at the time asked for, or may have: its events decide."""

    tenant: str
    binding: str


class EventIndex(Protocol):
    """Finds leaves by what their events say. Derived from the log: it may lag behind, never lie.

    Safe from many threads and processes. What `add` recorded may be lost at a crash from its end
    backwards, whole calls at a time; `size` then says how far.
    """

    def claim(self, log: str) -> None:
        """Ties the index to a log; the first claim makes it that log's for ever.

        Raises:
            StorageConflict: it is another log's. Remove it, and it is made anew.
        """
        ...

    @property
    def size(self) -> int:
        """Number of leaves that are indexed, from the first one on without a gap."""
        ...

    def add(self, rows: Sequence[IndexRow]) -> None:
        """Indexes consecutive leaves in one atomic step; those below `size` are passed over.
        A leaf that says a purge bucket has ended takes all tags of that bucket with it.

        Raises:
            ValueError: leaves between `size` and the first of `rows` are missing.
        """
        ...

    def find(self, event_id: str) -> int | None:
        """The leaf of this event, or None if no indexed leaf has it."""
        ...

    def has_tenant(self, tenant: str) -> bool:
        """Whether any indexed leaf is of this tenant."""
        ...

    def lived(self, number: str, at_ms: int, limit: int) -> list[Term]:
        """At most `limit` bindings that began on this 700 number at or before `at_ms` and, by the
        latest end that any of their events names, lived longer; the oldest first."""
        ...

    def parties(self, leaf: int) -> frozenset[bytes]:
        """The tags of real numbers that are kept of a leaf."""
        ...

    def query(self, wanted: Filter, first: int, below: int, limit: int) -> list[int]:
        """At most `limit` leaves in [first, below) that the filter lets through, ascending."""
        ...
