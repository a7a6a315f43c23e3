"""What a call, a view's entry and a decision are. Pure.

Refuses to decide: that is `rule`. Invariant: the numbers of the enums are those of
axbridge.router.v1 and axbridge.binding.v1 (a test compares them). The values of a call's path are
named tuples, which are made in a third of a frozen dataclass's time and, where several fields are
read, taken apart in one step; those with personal data have a repr of their own.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

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
    NO_CALLEE = 14
    NO_LAST_CALLER = 15
    EXTENSION_NEEDED = 16
    EXTENSION_UNKNOWN = 17
    BLACKLISTED = 29
    SCANNING = 30
    NOT_GENUINE = 40
    UNVERIFIED = 41
    TRANSFERRED = 42
    TRANSFER_LOOP = 43
    SHORT_NUMBER = 44
    MESSAGES_REFUSED = 45
    TEXT_HAS_NUMBER = 46


class Mode(IntEnum):
    """The modes that this router knows."""

    AXB = 1
    AX = 2
    AXYB = 3
    AXE = 4


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


class Caller(IntEnum):
    """What the calling digits were, where they are no number."""

    WITHHELD = 1
    INVALID = 2


class Call(NamedTuple):
    """A switch's question. `caller` and `dialled` are as presented; the caller is personal data."""

    carrier: str
    call_id: str
    caller: str
    dialled: str
    trunk: str
    transferred_by: tuple[str, ...] = ()  # platforms that sent the call on
    extension: str = ""

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


class LastCaller(NamedTuple):
    """Who called A of a binding of mode AXE, for A's call back; `box` holds the number, sealed."""

    tenant: str
    binding: str
    number: str
    time_ms: int
    expire_ms: int
    key_id: str
    box: bytes


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
