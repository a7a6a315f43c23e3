"""Says who was behind a 700 number at a time (R18, `Trace`). Pure.

The index names the bindings that may have lived on the number then; what each was at the moment its
newest event of that time decides. Refuses to open anything: a caller is compared by blind tag, and
once the tags are erased the answer says so instead of "no". Invariant: one answer is made from one
published state of the log.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from services.audit.domain import NUMBER, Filter, invalid
from services.audit.handlers import Found, Tags, prover_of
from services.audit.ports import EventIndex, Published, PublishedLog, Term
from services.runtime.errors import InvalidArgument
from services.runtime.phone import PhoneNumber

# A shared number has some 200 bindings at a time; each costs three look-ups, 0.2 ms.
MOST_TRACED: Final = 1000
# Events of one binding that are looked through at a time for those of its terms.
_EVENTS: Final = 1000
Role = Literal["none", "party", "stranger"]


@dataclass(frozen=True, slots=True)
class Moment:
    """What an event says of its binding from then on. `open`: its mode lets strangers call."""

    start_ms: int
    expire_ms: int
    ended: bool
    open: bool


@dataclass(frozen=True, slots=True)
class Traced:
    """A binding that lived on the number, and what the caller was to it."""

    tenant: str
    binding: str
    event: Found
    role: Role


@dataclass(frozen=True, slots=True)
class Trace:
    """`erased`: bindings of that time of which nobody can say any more whether the caller was on
    them."""

    bindings: Sequence[Traced]
    erased: int
    note: bytes


class Tracer:
    """The use case. Safe from many threads."""

    def __init__(
        self,
        log: PublishedLog,
        index: EventIndex,
        tags: Tags,
        types: Sequence[str],
        read: Callable[[bytes], Moment],
    ) -> None:
        """`types`: full names of the events that carry a binding's terms, which `read` reads."""
        self._log = log
        self._index = index
        self._tags = tags
        self._types = types
        self._read = read

    def trace(self, number: str, at_ms: int, caller: PhoneNumber | None, *, prove: bool) -> Trace:
        """Who was behind `number` at `at_ms`, for `caller` if one is given.

        Raises:
            InvalidArgument: INVALID_FIELD, TRACE_TOO_WIDE.
            Unavailable: LOG_EMPTY.
        """
        if not NUMBER.fullmatch(number):
            raise invalid("number")
        published = self._log.published()
        terms = self._index.lived(number, at_ms, MOST_TRACED + 1)
        if len(terms) > MOST_TRACED:
            why = "too many bindings lived on the number then"
            raise InvalidArgument("TRACE_TOO_WIDE", why, limit=str(MOST_TRACED))
        proof = prover_of(published) if prove else None
        found: list[Traced] = []
        erased = 0
        for term in terms:
            newest = self._newest(published, term, at_ms)
            if newest is None:
                continue
            leaf, entry, moment = newest
            role = self._role(term.tenant, leaf, moment, caller)
            if role is None:
                erased += not self._index.parties(leaf)
                continue
            event = Found(leaf, entry, proof(leaf) if proof else None)
            found.append(Traced(term.tenant, term.binding, event, role))
        return Trace(found, erased, published.note if prove else b"")

    def _newest(
        self, published: Published, term: Term, at_ms: int
    ) -> tuple[int, bytes, Moment] | None:
        """The binding's newest event at the moment, if it lived then."""
        newest = -1
        for kind in self._types:
            wanted = Filter(term.tenant, term.binding, type=kind, end_ms=at_ms + 1)
            first = 0
            while leaves := self._index.query(wanted, first, published.tree.size, _EVENTS):
                newest, first = max(newest, leaves[-1]), leaves[-1] + 1
                if len(leaves) < _EVENTS:
                    break
        if newest < 0:
            return None
        entry = published.tree.entry(newest)
        moment = self._read(entry)
        lived = not moment.ended and moment.start_ms <= at_ms < moment.expire_ms
        return (newest, entry, moment) if lived else None

    def _role(
        self, tenant: str, leaf: int, moment: Moment, caller: PhoneNumber | None
    ) -> Role | None:
        """What the caller was to the binding of this event; None: nothing, or nobody can tell."""
        if caller is None:
            return "none"
        if self._tags.party(tenant, caller.e164) in self._index.parties(leaf):
            return "party"
        return "stranger" if moment.open else None
