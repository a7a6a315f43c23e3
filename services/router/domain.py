"""What a decision about a call is, and the one rule that makes it. Pure.

Refuses to look anything up: whoever calls `decide` has read the view and the clock. The numbers of
the enums are those of axbridge.router.v1 and axbridge.binding.v1 (a test compares them).

Invariant: whatever is not certain is refused. Only an active entry of this very caller on this very
number, inside its time and direction, connects. The values of a call's path are named tuples, which
are made in a third of a frozen dataclass's time and, where several fields are read, taken apart in
one step; those with personal data have a repr of their own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

from services.runtime.options import NONE, Options, parse

MARK: Final = "【号码保护】"  # R3: people see that a protected number is used


class Refusal(IntEnum):
    """Why a call is not connected."""

    DIALLED_INVALID = 1
    BLOCK_FOREIGN = 2
    CALLER_WITHHELD = 3
    CALLER_INVALID = 4
    NOT_BOUND = 5
    EXPIRED = 6
    RELEASED = 7
    DIRECTION = 8
    VIEW_STALE = 9
    KEY_UNAVAILABLE = 10
    NOT_STARTED = 11
    OUTSIDE_HOURS = 12
    UNSUPPORTED = 13
    BLACKLISTED = 29
    NOT_GENUINE = 40
    UNVERIFIED = 41
    TRANSFERRED = 42
    TRANSFER_LOOP = 43
    SHORT_NUMBER = 44


# Q.850 causes: 1 unallocated number, 16 normal clearing, 21 call rejected, 23 redirection to new
# destination, 25 exchange routing error, 28 invalid number format, 41 temporary failure. The
# announcement is a name that the switch maps to its recording.
TREATMENT: Final[dict[Refusal, tuple[int, str]]] = {
    Refusal.DIALLED_INVALID: (28, "invalid-number"),
    Refusal.BLOCK_FOREIGN: (1, "unallocated-number"),
    Refusal.CALLER_WITHHELD: (21, "caller-withheld"),
    Refusal.CALLER_INVALID: (21, "caller-invalid"),
    Refusal.NOT_BOUND: (21, "not-authorised"),
    Refusal.EXPIRED: (21, "expired"),
    Refusal.RELEASED: (21, "expired"),
    Refusal.DIRECTION: (21, "wrong-direction"),
    Refusal.VIEW_STALE: (41, "try-later"),
    Refusal.KEY_UNAVAILABLE: (41, "try-later"),
    Refusal.NOT_STARTED: (21, "not-yet"),
    Refusal.OUTSIDE_HOURS: (21, "outside-hours"),
    Refusal.UNSUPPORTED: (41, "try-later"),
    Refusal.BLACKLISTED: (21, "not-authorised"),
    Refusal.NOT_GENUINE: (21, "not-authorised"),
    Refusal.UNVERIFIED: (41, "try-later"),
    Refusal.TRANSFERRED: (23, "transferred"),
    Refusal.TRANSFER_LOOP: (25, "unallocated-number"),
    Refusal.SHORT_NUMBER: (28, "invalid-number"),
}


class Mode(IntEnum):
    """The modes that this router knows."""

    AXB = 1


class Direction(IntEnum):
    """Who may call."""

    UNSPECIFIED = 0
    BOTH = 1
    A_TO_B = 2
    B_TO_A = 3


class Side(IntEnum):
    """Which party of a binding someone is."""

    UNKNOWN = 0
    A = 1
    B = 2


_MAY_CALL: Final[frozenset[tuple[int, int]]] = frozenset({
    (Direction.UNSPECIFIED, Side.A), (Direction.UNSPECIFIED, Side.B),
    (Direction.BOTH, Side.A), (Direction.BOTH, Side.B),
    (Direction.A_TO_B, Side.A), (Direction.B_TO_A, Side.B),
})  # fmt: skip


class Caller(IntEnum):
    """What the calling digits were, where they are no number."""

    WITHHELD = 1
    INVALID = 2


_WITHHELD, _INVALID = Caller  # a member asked of its class goes through a property


class Call(NamedTuple):
    """A switch's question. `caller` and `dialled` are as presented; the caller is personal data."""

    carrier: str
    call_id: str
    caller: str
    dialled: str
    trunk: str
    transferred_by: tuple[str, ...] = ()  # platforms that sent the call on

    def __repr__(self) -> str:
        return f"<Call {self.carrier}/{self.call_id}>"


class Entry(NamedTuple):
    """What the view says about one caller on one number. `box` is the callee's route copy, empty
    where there is none; `options` is their text (services/runtime/options.py), mostly empty."""

    tenant: str
    binding: str
    version: int
    active: bool
    caller_side: int
    mode: int
    direction: int
    max_call_minutes: int
    expire_ms: int
    lease_epoch: int
    industry_id: str
    key_id: str
    box: bytes
    options: str = ""

    def __repr__(self) -> str:
        return f"<Entry {self.tenant}/{self.binding} version {self.version}>"


class Verdict(IntEnum):
    """What a verifier said of a call that would be connected (R15)."""

    NOT_ASKED = 0
    GENUINE = 1
    NOT_GENUINE = 2
    GENUINE_CACHED = 3
    NOT_GENUINE_CACHED = 4
    UNANSWERED = 5


class Transfer(NamedTuple):
    """Who holds a number that is not ours (R2), and `path`, the platforms that sent the call on,
    ourselves last: they do not do so twice."""

    platform: str
    endpoint: str
    path: tuple[str, ...]


class Decision(NamedTuple):
    """What was decided: connected if `refusal` is None. `callee`, `caller`, `tag` are personal."""

    call: Call
    time_ms: int
    age_ms: int
    number: str  # 15 digits, or empty where the dialled digits are none
    tenant: str  # empty where the block is foreign
    entry: Entry | None
    refusal: Refusal | None
    callee: str
    caller: str  # E.164, or empty where withheld or invalid
    tag: bytes  # of the caller, or empty
    verdict: int = 0  # a Verdict
    transfer: Transfer | None = None  # where TRANSFERRED

    def __repr__(self) -> str:
        outcome = "connect" if self.refusal is None else self.refusal.name
        return f"<Decision {self.call.carrier}/{self.call.call_id} {outcome}>"


def decide(
    number: str | None,
    caller: str | Caller,
    stale: bool,
    tenants: Sequence[str],
    entry: Entry | None,
    now_ms: int,
) -> Refusal | None:
    """Why the call is refused; None to connect it to the entry's callee.

    `stale`: the view is older than it may be. `tenants` own bindings in the number's block; `entry`
    is the caller's best on the number.
    """
    if number is None:
        return Refusal.DIALLED_INVALID
    if stale:  # first of what the view says: it may all be wrong
        return Refusal.VIEW_STALE
    if not tenants:
        return Refusal.BLOCK_FOREIGN
    if caller is _WITHHELD:
        return Refusal.CALLER_WITHHELD
    if caller is _INVALID:
        return Refusal.CALLER_INVALID
    if entry is None:
        return Refusal.NOT_BOUND
    _, _, _, active, side, mode, direction, _, expire_ms, _, _, _, _, options = entry
    plain = mode == 1 and not options
    if not plain and not side:
        return Refusal.NOT_BOUND  # a stranger's entry says only what the stranger hears
    if not active:
        return Refusal.RELEASED
    if now_ms >= expire_ms:
        return Refusal.EXPIRED
    if (direction, side) not in _MAY_CALL:
        return Refusal.DIRECTION
    return None if plain else _restricted(entry, now_ms)


def _restricted(entry: Entry, now_ms: int) -> Refusal | None:
    """Why mode or options refuse the call. Unknown ones do: nothing is guessed."""
    options = options_of(entry)
    if entry.mode != Mode.AXB or options is None:
        return Refusal.UNSUPPORTED
    if now_ms < options.start_ms:
        return Refusal.NOT_STARTED
    try:
        inside = options.open_at(now_ms)
    except LookupError:  # a zone that this machine has not
        return Refusal.UNSUPPORTED
    return None if inside else Refusal.OUTSIDE_HOURS


def options_of(entry: Entry) -> Options | None:
    """The entry's options; None if this router does not know all of them."""
    try:
        return parse(entry.options)
    except ValueError:
        return None


class Treatment(NamedTuple):
    """What a refused caller meets. `play`: the call is answered, the announcement played."""

    cause: int
    announcement: str
    play: bool = False


_ENDED: Final = frozenset((Refusal.EXPIRED, Refusal.RELEASED))


def treatment(refusal: Refusal, entry: Entry | None) -> Treatment:
    """The tenant's own treatment where the entry names one, else the platform's."""
    options = (options_of(entry) if entry is not None and entry.options else None) or NONE
    if refusal is Refusal.NOT_BOUND and options.stranger:
        return Treatment(
            16 if options.stranger_play else 21, options.stranger, options.stranger_play
        )
    if refusal in _ENDED and options.after:
        return Treatment(21, options.after)
    return Treatment(*TREATMENT[refusal])


class Leg(IntEnum):
    """Which leg of the bridged call."""

    CALLER = 1
    CALLEE = 2


class Kind(IntEnum):
    """What happened to a leg."""

    RINGING = 1
    ANSWERED = 2
    ENDED = 3


@dataclass(frozen=True, slots=True)
class Progress:
    """A switch's report about a leg of a call."""

    carrier: str
    call_id: str
    leg: int
    sequence: int
    kind: int
    event_ms: int
    q850_cause: int
    release_side: int
