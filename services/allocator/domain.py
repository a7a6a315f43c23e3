"""What a pool, a block, a number and a lease are, and which of them are well formed. Pure.

Refuses names and digits that are not of the one form everything else relies on. Invariant: whoever
holds a value of these types need not check it again.
"""

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

from services.runtime.errors import InvalidArgument

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

_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,31}", re.ASCII)
_BLOCK: Final = re.compile(r"700\d{8}", re.ASCII)
_NUMBER: Final = re.compile(r"700\d{12}", re.ASCII)


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


class Change(Enum):
    """What allocator did to a number by itself; the values are those of NumberChange."""

    RETURNED = 1
    LEASE_RAN_OUT = 2
    LOCKED = 3
    UNLOCKED = 4


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
    """A tenant's numbers. Nothing of it changes after its creation."""

    id: PoolId
    policy: Policy
    cooling_ms: int
    created_ms: int


@dataclass(frozen=True, slots=True)
class Block:
    """Ten thousand numbers that feed one pool for good."""

    block: str
    pool: PoolId
    created_ms: int


@dataclass(frozen=True, slots=True)
class Number:
    """One number as it stands. `cool_until_ms` is 0 unless it cools."""

    number: str
    pool: PoolId
    state: State
    pairs: int
    cool_until_ms: int
    version: int


@dataclass(frozen=True, slots=True, repr=False)
class Wish:
    """What one number is wanted for: not to meet these parties, not to be one of these numbers."""

    tags: tuple[bytes, ...] = ()
    excluded: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Wish of {len(self.tags)} parties without {len(self.excluded)} numbers>"


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to bind one number until a deadline."""

    number: str
    epoch: int
    deadline_ms: int = 0


@dataclass(frozen=True, slots=True)
class Leased:
    """The answer to one LeaseNumbers: per wish a lease, or None where no number could take it."""

    pool: Pool
    leases: tuple[Lease | None, ...]


@dataclass(frozen=True, slots=True)
class Statistics:
    """Numbers of a pool by state, each counted once, and its live bindings."""

    total: int
    free: int
    leased: int
    bound: int
    cooling: int
    locked: int
    pairs: int


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


def pool_id(name: str, field: str = "name") -> PoolId:
    """The pool that a resource name names. Raises InvalidArgument (INVALID_FIELD)."""
    parts = name.split("/")
    if len(parts) == 4 and parts[0] == "tenants" and parts[2] == "pools":
        tenant, pool = parts[1], parts[3]
        if _NAME.fullmatch(tenant) and _NAME.fullmatch(pool):
            return PoolId(tenant, pool)
    raise InvalidArgument("INVALID_FIELD", "not tenants/{tenant}/pools/{pool}", field=field)


def block_digits(name: str) -> str:
    """The 11 digits in `blocks/{block}`. Raises InvalidArgument (BLOCK_INVALID)."""
    digits = name.removeprefix("blocks/")
    if not name.startswith("blocks/") or not _BLOCK.fullmatch(digits):
        raise InvalidArgument("BLOCK_INVALID", "not blocks/ and 11 digits that begin with 700")
    return digits


def number_digits(name: str) -> str:
    """The 15 digits in `numbers/{number}`. Raises InvalidArgument (NUMBER_INVALID)."""
    if not name.startswith("numbers/"):
        raise InvalidArgument("NUMBER_INVALID", "not numbers/ and 15 digits that begin with 700")
    return middle_number(name.removeprefix("numbers/"))


def middle_number(digits: str) -> str:
    """The digits of a number of the 700 range. Raises InvalidArgument (NUMBER_INVALID)."""
    if not _NUMBER.fullmatch(digits):
        raise InvalidArgument("NUMBER_INVALID", "not 15 digits that begin with 700")
    return digits
