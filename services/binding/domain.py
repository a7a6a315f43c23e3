"""What a binding is and what may become of it. Pure: no I/O, no clock of its own.

Refuses to know real numbers: a binding knows its parties by blind tag. Invariant: the version grows
by exactly one with each change, and an ended binding never changes again, but for being
erased.
"""

from dataclasses import dataclass, replace
from enum import Enum, IntEnum
from typing import Any, Final

from services.runtime.errors import Aborted, FailedPrecondition, InvalidArgument
from services.runtime.options import NONE, Options

SHORTEST_MS: Final = 60_000
_DAY_MS: Final = 24 * 60 * 60_000
LONGEST_MS: Final = 366 * _DAY_MS
# An ended binding can be read, and its requests are answered, for at least this long.
REMEMBERED_MS: Final = _DAY_MS


class Mode(IntEnum):
    """How parties and numbers are tied; numbered as in the proto."""

    AXB = 1
    AX = 2
    AXYB = 3
    AXE = 4


_SHARED: Final = {Mode.AX: False, Mode.AXE: True}  # modes that need a pool of one policy


class Direction(IntEnum):
    """Who may call; numbered as in the proto."""

    BOTH = 1
    A_TO_B = 2
    B_TO_A = 3


class State(Enum):
    """Where a binding is in its life, as the store writes it."""

    ACTIVE = "A"
    RELEASED = "R"


class Reason(IntEnum):
    """Why it ended; numbered as in the proto."""

    NONE = 0
    REQUESTED = 1
    EXPIRED = 2
    UNCONFIRMED = 3
    CONSENT_WITHDRAWN = 10
    ERASURE = 60


@dataclass(frozen=True, slots=True)
class Answered:
    """A request that made a version of a binding."""

    request_id: str
    body_hash: bytes
    time_ms: int
    version: int


@dataclass(frozen=True, slots=True, repr=False)
class Terms:
    """What a tenant asks for, without the parties."""

    pool: str
    order_id: str
    industry_id: str
    expire_ms: int
    direction: Direction = Direction.BOTH
    max_call_minutes: int = 0
    customer_data: bytes = b""
    options: Options = NONE
    mode: Mode = Mode.AXB

    def check(self, now: int, shortest_ms: int = SHORTEST_MS) -> None:
        """Raises InvalidArgument: EXPIRY_PAST, EXPIRY_TOO_SOON, EXPIRY_TOO_FAR, START_AFTER_END."""
        check_expiry(self.expire_ms, now, shortest_ms)
        if self.options.start_ms >= self.expire_ms:
            raise InvalidArgument("START_AFTER_END", "start_time is not ahead of the expiry")

    def check_number(self, *, exclusive: bool) -> None:
        """Raises FailedPrecondition: MODE_NOT_FOR_POOL, OPTION_NEEDS_EXCLUSIVE."""
        if _SHARED.get(self.mode, not exclusive) is exclusive:
            raise FailedPrecondition(
                "MODE_NOT_FOR_POOL", "the mode needs a pool of the other policy", pool=self.pool
            )
        if self.options.stranger and not exclusive:
            raise FailedPrecondition(
                "OPTION_NEEDS_EXCLUSIVE", "of a shared number nobody knows whose policy counts",
                field="options.unknown_caller",
            )  # fmt: skip


@dataclass(frozen=True, slots=True, repr=False)
class Lease:
    """The right to bind one number until a deadline of the store's clock."""

    number: str
    epoch: int
    deadline_ms: int
    exclusive: bool
    cooling_ms: int
    pair_cooling_ms: int = 0  # exclusive: 0 where parties are not remembered
    sticky: bool = False  # it rests from these very parties, and they may have it again

    def __repr__(self) -> str:
        return f"<Lease {self.number} epoch {self.epoch}>"


@dataclass(frozen=True, slots=True, repr=False)
class Binding:
    """A binding at one version. Times are milliseconds since 1970; 0: not yet. `tag_b` is empty
    where there is no B; in mode AX it is the temporary callee's."""

    tenant: str
    id: str
    number: str
    terms: Terms
    tag_a: bytes
    tag_b: bytes
    lease_epoch: int
    cooling_ms: int
    exclusive: bool
    create_ms: int
    update_ms: int
    requests: tuple[Answered, ...] = ()
    version: int = 1
    state: State = State.ACTIVE
    reason: Reason = Reason.NONE
    release_ms: int = 0
    cool_until_ms: int = 0
    consent_a: str = ""
    consent_b: str = ""
    drain_ms: int = 0  # once a party has withdrawn: when the grace period ends
    second_epoch: int = 0  # of the lease of Y, mode AXYB
    pair_cooling_ms: int = 0  # exclusive: how long its parties rest from the number; 0: not at all

    def __repr__(self) -> str:
        return f"<Binding {self.id} version {self.version} {self.state.name}>"

    @property
    def second(self) -> str:
        """Y in mode AXYB, or nothing."""
        return self.terms.options.numbers.partition("-")[2]

    @property
    def numbers(self) -> tuple[str, ...]:
        """The middle numbers that it stands on, X first."""
        return (self.number, self.second) if self.second else (self.number,)

    @property
    def live(self) -> bool:
        """Not ended; it may be past its expiry."""
        return self.state is State.ACTIVE

    @property
    def restricted(self) -> bool:
        """A party asked to be erased: it is kept, and otherwise not there."""
        return self.reason is Reason.ERASURE

    @property
    def forget_ms(self) -> int:
        """When an ended binding's records go: all cooling is over and nobody asks any more.
        allocator folds the parties' rest from the route, which goes then too."""
        return max(self.cool_until_ms, self.release_ms + max(REMEMBERED_MS, self.pair_cooling_ms))

    @property
    def due_ms(self) -> int:
        """When something of a live binding is over: its callee's minute, or its life."""
        until = self.terms.options.callee_until_ms
        return min(until or self.terms.expire_ms, self.terms.expire_ms)

    def updated(
        self, version: int, expire_ms: int, request: Answered, shortest_ms: int = SHORTEST_MS
    ) -> "Binding":
        """The binding with another expiry.

        Raises:
            FailedPrecondition: BINDING_ENDED, also from its expiry on: calls are refused by then;
                BINDING_DRAINING.
            Aborted: VERSION_STALE.
            InvalidArgument: EXPIRY_PAST, EXPIRY_TOO_SOON, EXPIRY_TOO_FAR, START_AFTER_END.
        """
        now = request.time_ms
        self.check_changeable(now)
        if version != self.version:
            raise stale(self.version)
        terms = replace(self.terms, expire_ms=expire_ms)
        terms.check(now, shortest_ms)
        return self.next(now, request, terms=terms)

    def next(self, now: int, request: Answered | None, **changes: Any) -> "Binding":
        """The binding changed, by a request or by itself."""
        made = [replace(request, version=self.version + 1)] if request else []
        return replace(
            self,
            version=self.version + 1,
            update_ms=now,
            requests=(*_recent(self.requests, now), *made),
            **changes,
        )

    def renewed(self, call_ms: int, now: int) -> "Binding":
        """The binding with its end behind a call; itself where it ends late enough.

        Raises:
            FailedPrecondition: BINDING_ENDED, BINDING_NOT_SLIDING.
        """
        self.check_changeable(now)
        sliding_ms = self.terms.options.sliding_seconds * 1000
        if not sliding_ms:
            raise FailedPrecondition(
                "BINDING_NOT_SLIDING", "calls do not move its end", binding=self.id
            )
        expire_ms = min(min(call_ms, now) + sliding_ms, now + LONGEST_MS)
        if expire_ms <= self.terms.expire_ms:
            return self
        return self.next(now, None, terms=replace(self.terms, expire_ms=expire_ms))

    def check_changeable(self, now: int) -> None:
        """Raises FailedPrecondition: BINDING_ENDED."""
        if not self.live or self.terms.expire_ms <= now:
            raise FailedPrecondition(
                "BINDING_ENDED", "an ended binding cannot be changed", binding=self.id
            )
        if self.drain_ms:
            raise FailedPrecondition(
                "BINDING_DRAINING", "a party has withdrawn its consent", binding=self.id
            )

    def draining(self, until: int, now: int) -> "Binding":
        """The binding, to end once the grace period of a withdrawal is over (R5). Its expiry is
        brought forward, so whoever knows nothing of consents refuses in time."""
        return replace(
            self,
            terms=replace(self.terms, expire_ms=min(self.terms.expire_ms, until)),
            version=self.version + 1,
            update_ms=now,
            drain_ms=until,
        )

    def released(self, now: int, reason: Reason, version: int = 0) -> "Binding":
        """The binding, ended. Whoever ends it after its expiry, it has expired, or its party's
        withdrawal has come into effect.

        `version`: the one it gets, where a higher one than the next has been seen.
        """
        if reason in (Reason.REQUESTED, Reason.EXPIRED) and self.terms.expire_ms <= now:
            drained = self.drain_ms == self.terms.expire_ms
            reason = Reason.CONSENT_WITHDRAWN if drained else Reason.EXPIRED
        return replace(
            self,
            version=version or self.version + 1,
            state=State.RELEASED,
            reason=reason,
            update_ms=now,
            release_ms=now,
            cool_until_ms=now + self.cooling_ms,
            requests=_recent(self.requests, now),
        )


def erased(binding: Binding, now: int) -> Binding:
    """The binding, ended if it was not, and shown to nobody from then on (R17). The one change that
    an ended binding still takes."""
    if binding.live:
        return binding.released(now, Reason.ERASURE)
    return replace(binding, version=binding.version + 1, reason=Reason.ERASURE, update_ms=now)


def check_expiry(
    expire_ms: int, now: int, shortest_ms: int = SHORTEST_MS, longest_ms: int = LONGEST_MS
) -> None:
    """Raises InvalidArgument: EXPIRY_PAST, EXPIRY_TOO_SOON or EXPIRY_TOO_FAR."""
    if expire_ms <= now:
        raise InvalidArgument("EXPIRY_PAST", "expire_time lies in the past")
    if expire_ms < now + shortest_ms:
        raise InvalidArgument("EXPIRY_TOO_SOON", "expire_time is too near")
    if expire_ms > now + longest_ms:
        raise InvalidArgument("EXPIRY_TOO_FAR", "expire_time is too far ahead")


def stale(current: int) -> Aborted:
    """What a caller gets who has seen an older version."""
    return Aborted("VERSION_STALE", "the binding has changed: read it again", version=str(current))


def _recent(requests: tuple[Answered, ...], now: int) -> tuple[Answered, ...]:
    """The creating request always, others for a day."""
    return requests[:1] + tuple(r for r in requests[1:] if r.time_ms > now - REMEMBERED_MS)
