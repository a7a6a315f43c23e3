"""What audit answers, in the order of the rpcs. Pure: the log and the index are its arguments.

Refuses to prove anything beyond the published checkpoint. Invariant: one answer is made from one
published state, so its leaves, proofs and checkpoint fit together.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Protocol

from services.audit.domain import PAGE_BYTES, PROOF_BYTES, Query, after, invalid, page_token
from services.audit.ports import Arrivals, EventIndex, Published, PublishedLog
from services.runtime.errors import InvalidArgument, NotFound, Unavailable

# How long a receipt waits for its event: publishing and indexing take some 0.2 s.
RECEIPT_SECONDS: Final = 1.0
# Receipts that may wait at a time, half of the server's threads; more are answered at once.
_MOST_WAITING: Final = 8
_WITNESS_RETRY: Final = timedelta(seconds=1)


class Tags(Protocol):
    """Blind tags, by which alone the index knows orders and real numbers."""

    def order(self, tenant: str, order_id: str) -> bytes: ...

    def party(self, tenant: str, e164: str) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Inclusion:
    """A leaf's audit path in the tree of `size`; `note` is empty unless that is published."""

    leaf: int
    size: int
    leaf_hash: bytes
    hashes: Sequence[bytes]
    note: bytes


@dataclass(frozen=True, slots=True)
class Found:
    """A leaf, its entry as stored, and its proof if that was asked for."""

    leaf: int
    entry: bytes
    proof: Inclusion | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Leaves, oldest first, their proofs against `note`; no token on the last page."""

    events: Sequence[Found]
    next_token: str = ""
    note: bytes = b""


@dataclass(frozen=True, slots=True)
class Receipt:
    """A leaf's entry as stored and its proof, whose `note` is never empty."""

    entry: bytes
    proof: Inclusion


@dataclass(frozen=True, slots=True)
class Consistency:
    """Shows that the tree of `first` leaves is a prefix of the one of `second`."""

    first: int
    second: int
    hashes: Sequence[bytes]


class Audit:
    """The use cases. Safe from many threads."""

    def __init__(
        self, log: PublishedLog, index: EventIndex, arrivals: Arrivals, tags: Tags
    ) -> None:
        self._log = log
        self._index = index
        self._arrivals = arrivals
        self._tags = tags
        self._waiting = threading.BoundedSemaphore(_MOST_WAITING)

    def query_events(self, query: Query) -> Page:
        """One page of the events that fit the query.

        A page ends with its last leaf in the token, and leaves only ever get larger indexes, so
        later pages neither repeat nor leave out a leaf, whatever arrives meanwhile.

        Raises:
            InvalidArgument: INVALID_PAGE_TOKEN.
            Unavailable: LOG_EMPTY.
        """
        published = self._log.published()
        tree, order_tag, party = published.tree, None, None
        if query.order_id or query.party:
            # Asking for a tag makes the tenant's tag key: not for a tenant that never was.
            if not self._index.has_tenant(query.tenant):
                return Page([])
            if query.order_id:
                order_tag = self._tags.order(query.tenant, query.order_id)
            if query.party:
                party = self._tags.party(query.tenant, query.party.e164)
        wanted = query.filter(order_tag, party)
        first = after(wanted, query.page_token)
        leaves = self._index.query(wanted, first, tree.size, query.limit + 1)
        prove = prover_of(published) if query.prove else None
        events: list[Found] = []
        size = 0
        for leaf, entry in tree.pick(leaves[: query.limit]):
            size += len(entry) + (PROOF_BYTES if prove else 0)
            if events and size > PAGE_BYTES:
                break
            events.append(Found(leaf, entry, prove(leaf) if prove else None))
        more = len(events) < len(leaves)
        token = page_token(wanted, events[-1].leaf) if more else ""
        return Page(events, token, published.note if prove else b"")

    def checkpoint(self) -> tuple[Published, Published | None]:
        """The published state, and the witnessed one. Raises Unavailable: LOG_EMPTY."""
        return self._log.published(), self._log.witnessed()

    def prove_event(self, event_id: str, size: int) -> Inclusion:
        """Proves that an event is in the tree of `size` leaves (0: the published one).

        Raises:
            NotFound: EVENT_NOT_FOUND: it is not indexed, perhaps not yet.
            InvalidArgument: INVALID_FIELD, TREE_SIZE_INVALID.
            Unavailable: LOG_EMPTY.
        """
        if not event_id:
            raise invalid("leaf")
        leaf = self._index.find(event_id)
        published = self._log.published()  # after the index: it covers what was found
        if leaf is None:
            raise _not_found()
        return _inclusion(published, leaf, size)

    def prove_leaf(self, leaf: int, size: int) -> Inclusion:
        """Proves a leaf by its index; errors as `prove_event`, without EVENT_NOT_FOUND."""
        if leaf < 0:
            raise invalid("leaf_index")
        return _inclusion(self._log.published(), leaf, size)

    def receipt(
        self, event_id: str, wait_seconds: float = RECEIPT_SECONDS, *, witnessed: bool = False
    ) -> Receipt:
        """The receipt of an event; one that is not there yet is waited for.

        Raises:
            NotFound: EVENT_NOT_FOUND: it did not come in time, or too many wait.
            InvalidArgument: INVALID_FIELD.
            Unavailable: LOG_EMPTY; NOT_WITNESSED: `witnessed` is asked for, and too few witnesses
                have cosigned a checkpoint that covers the event.
        """
        if not event_id:
            raise invalid("event_id")
        leaf = self._index.find(event_id)
        if leaf is None and self._waiting.acquire(blocking=False):
            try:
                leaf = self._await(event_id, time.monotonic() + wait_seconds)
            finally:
                self._waiting.release()
        published = self._log.published()  # after the index: it covers what was found
        if leaf is None:
            raise _not_found()
        if witnessed:
            published = self._witnessed(leaf)
        return Receipt(published.tree.entry(leaf), _inclusion(published, leaf, 0))

    def _witnessed(self, leaf: int) -> Published:
        found = self._log.witnessed()
        if found is None or leaf >= found.tree.size:
            why = "no checkpoint with enough cosignatures covers the event yet"
            raise Unavailable("NOT_WITNESSED", why, retry_after=_WITNESS_RETRY)
        return found

    def _await(self, event_id: str, until: float) -> int | None:
        while True:
            size = self._index.size  # before the look-up: what comes between the two wakes us
            leaf = self._index.find(event_id)
            if leaf is not None or not self._arrivals.beyond(size, until - time.monotonic()):
                return leaf

    def prove_growth(self, first: int, second: int) -> Consistency:
        """Proves that the tree of `first` leaves became that of `second` (0: the published one).

        Raises:
            InvalidArgument: INVALID_FIELD, TREE_SIZE_INVALID.
            Unavailable: LOG_EMPTY.
        """
        if first < 0:
            raise invalid("first_size")
        tree = self._log.published().tree
        second = _size(tree.size, second, "second_size")
        if first > second:
            raise _beyond(tree.size)
        return Consistency(first, second, tree.prover(second).consistency(first))


def prover_of(published: Published) -> Callable[[int], Inclusion]:
    """Proves many leaves in the published tree, reading each tile once. For one request; the
    checkpoint, which is the same for all, is left out of each."""
    prover, tree = published.tree.prover(), published.tree
    return lambda leaf: Inclusion(
        leaf, tree.size, tree.leaf_hash(leaf), prover.inclusion(leaf), b""
    )


def _not_found() -> NotFound:
    return NotFound("EVENT_NOT_FOUND", "the event is not (yet) a leaf of the log")


def _inclusion(published: Published, leaf: int, size: int) -> Inclusion:
    tree = published.tree
    size = _size(tree.size, size, "tree_size")
    if leaf >= size:
        raise _beyond(tree.size)
    hashes = tree.prover(size).inclusion(leaf)
    note = published.note if size == tree.size else b""
    return Inclusion(leaf, size, tree.leaf_hash(leaf), hashes, note)


def _size(published: int, asked: int, field: str) -> int:
    if asked < 0:
        raise invalid(field)
    if asked > published:
        raise _beyond(published)
    return asked or published


def _beyond(published: int) -> InvalidArgument:
    return InvalidArgument("TREE_SIZE_INVALID", "beyond the tree asked for", size=str(published))
