"""What a pool, a block, a number and a lease are. Pure.

Refuses to know how they are named or stored. Invariant: whoever holds a value of these types need
not check it again.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final

from services.runtime.selection import ANY, Selection

MAX_PAIRS: Final = 200  # AXB pairs on one shared number (domain.md)
BLOCK_SIZE: Final = 10_000  # serials behind the 11 managed digits
DAY_MS: Final = 24 * 3600 * 1000
DEFAULT_COOLING_MS: Final = DAY_MS  # no published period
COOLING_RANGE_MS: Final = (1000, 90 * DAY_MS)
DEFAULT_LEASE_MS: Final = 30_000
LEASE_RANGE_MS: Final = (1000, 600_000)
MAX_ITEMS: Final = 200
TAG_OCTETS: Final = 16
MAX_REASON: Final = 200
IMPORT_RANGE_MS: Final = (60_000, 30 * DAY_MS)
# Upper ends of the classes in which a shared pool's numbers are counted by their pairs; the last
# class has what is above. As in store/number.lua.
SPREAD: Final = (0, 1, 5, 20, 50, 100, 150, 199)


class Policy(Enum):
    """How many bindings a number of the pool may carry."""

    EXCLUSIVE = "exclusive"
    SHARED = "shared"


class State(Enum):
    """Where a number is in its life."""

    FREE = "free"
    LEASED = "leased"
    BOUND = "bound"
    COOLING = "cooling"
    LOCKED = "locked"
    RESERVED = "reserved"
    SUSPENDED = "suspended"
    RETIRED = "retired"


class BlockState(Enum):
    """Where a block is in its life; the values are those of the proto and of the store."""

    ACTIVE = 1
    SUSPENDED = 2
    RETIRING = 3
    RETIRED = 4


class Mark(Enum):
    """What an operator sets on a number."""

    LOCK = "lock"
    RESERVE = "reserve"


class Change(Enum):
    """What allocator did to a number by itself; the values are those of NumberChange."""

    RETURNED = 1
    LEASE_RAN_OUT = 2
    LOCKED = 3
    UNLOCKED = 4
    RESERVED = 5
    UNRESERVED = 6


@dataclass(frozen=True, slots=True)
class PoolId:
    """Whose pool, and which."""

    tenant: str
    pool: str

    @property
    def name(self) -> str:
        """The resource name."""
        return f"tenants/{self.tenant}/pools/{self.pool}"

    @property
    def path(self) -> str:
        """`<tenant>/<pool>`, as in keys."""
        return f"{self.tenant}/{self.pool}"


@dataclass(frozen=True, slots=True)
class Pool:
    """A tenant's numbers. Nothing of it changes after its creation. `pair_cooling_ms` is 0 where
    parties are not remembered."""

    id: PoolId
    policy: Policy
    cooling_ms: int
    created_ms: int
    pair_cooling_ms: int = 0

    @property
    def rest_ms(self) -> int:
        """What rests after a binding: an exclusive number, or the parties on a shared one."""
        shared = self.policy is Policy.SHARED
        return self.pair_cooling_ms or self.cooling_ms if shared else self.cooling_ms


@dataclass(frozen=True, slots=True)
class Block:
    """Ten thousand numbers that feed one pool for good. `area` is empty or a code of 6 digits."""

    block: str
    pool: PoolId
    created_ms: int
    area: str = ""
    state: BlockState = BlockState.ACTIVE


@dataclass(frozen=True, slots=True)
class Number:
    """One number as it stands. `cool_until_ms` is 0 unless it cools. `history`: the states it came
    to, and when, oldest first."""

    number: str
    pool: PoolId
    state: State
    pairs: int
    cool_until_ms: int
    version: int
    history: tuple[tuple[State, int], ...] = ()


@dataclass(frozen=True, slots=True, repr=False)
class Wish:
    """What one number is wanted for: not to meet these parties, not to be one of these numbers."""

    tags: tuple[bytes, ...] = ()
    excluded: tuple[str, ...] = ()
    selection: Selection = ANY

    def __repr__(self) -> str:
        return f"<Wish of {len(self.tags)} parties without {len(self.excluded)} numbers>"


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to bind one number until a deadline."""

    number: str
    epoch: int
    deadline_ms: int = 0
    sticky: bool = False


class Refused(Enum):
    """Why a wish got no lease; the values are reasons of errors."""

    EXHAUSTED = "POOL_EXHAUSTED"
    AREA = "AREA_EXHAUSTED"
    UNAVAILABLE = "NUMBER_UNAVAILABLE"
    UNKNOWN = "NUMBER_NOT_FOUND"
    FOREIGN = "NUMBER_FOREIGN"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A wish that got no lease. `why`: what stands against a number that was named."""

    reason: Refused
    why: str = ""
    selection: Selection = ANY


@dataclass(frozen=True, slots=True)
class Leased:
    """The answer to one LeaseNumbers: per wish a lease, or why there is none."""

    pool: Pool
    leases: tuple[Lease | Refusal, ...]

    @property
    def given(self) -> list[Lease]:
        """Those that are leases."""
        return [lease for lease in self.leases if isinstance(lease, Lease)]


@dataclass(frozen=True, slots=True, repr=False)
class Import:
    """A number that is in use already, and until when it waits for its binding."""

    number: str
    import_id: str
    until_ms: int
    tags: tuple[bytes, ...] = ()

    def __repr__(self) -> str:
        return f"<Import {self.import_id} of {self.number}>"


@dataclass(frozen=True, slots=True)
class Outlook:
    """By how much a pool's use grows an hour, and how long it lasts; None: for ever, or unknown."""

    growth_per_hour: int = 0
    left_ms: int | None = None


UNKNOWN: Final = Outlook()


@dataclass(frozen=True, slots=True)
class Statistics:
    """Numbers of a pool by state, each counted once, and its live bindings. `spread`: numbers of a
    shared pool by the classes of SPREAD, from the second on."""

    total: int
    free: int
    leased: int
    bound: int
    cooling: int
    locked: int
    pairs: int
    reserved: int = 0
    suspended: int = 0
    retired: int = 0
    spread: tuple[int, ...] = ()
    outlook: Outlook = UNKNOWN


class RouteState(Enum):
    """What a record of `binding.routes.v1` says of a binding."""

    ACTIVE = "A"
    RELEASED = "R"
    FORGOTTEN = "F"


@dataclass(frozen=True, slots=True, repr=False)
class RouteChange:
    """One record of `binding.routes.v1`, reduced to what concerns the number."""

    state: RouteState
    number: str
    binding: str
    version: int = 0
    lease_epoch: int = 0
    cool_until_ms: int = 0
    tags: tuple[bytes, ...] = ()

    def __repr__(self) -> str:
        return f"<RouteChange {self.state.name} {self.number}/{self.binding} v{self.version}>"
