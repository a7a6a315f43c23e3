"""Which number comes next: a keyed permutation of each block, and the choice among blocks. Pure.

The documented rule of generating numbers (R1, docs/design/numbers.md). Refuses to remember
anything per number: a block's whole future is its key and a cursor. Invariant: for one key and
block the map from index to number is a bijection onto the block's 10,000 numbers and never
changes, since cursors that stand in Kafka are counted in it.
"""

import hmac
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from services.allocator.domain import BLOCK_SIZE

_SIDE: Final = (
    100  # a serial is two digits pairs: 100 x 100 = 10,000, so no cycle walking is needed
)
# FF1 takes 10 rounds for domains as small as this; four would do against an adversary who sees few
# of the 10,000 values, but a pool in use shows all of them in the end.
_ROUNDS: Final = 10
_CACHED: Final = 4096  # blocks of 1 kB each


class Permutation:
    """The order in which one block's numbers are used first.

    A balanced Feistel network on Z_100 x Z_100: in each round one half is added, modulo 100, to a
    keyed function of the other. The function has only 100 arguments, so it is a table, made once
    per block (1.5 ms), and a number costs about a microsecond.
    """

    def __init__(self, key: bytes, block: str) -> None:
        self._block = block
        self._tables = _tables(key, block)

    def number(self, index: int) -> str:
        """The 15-digit number at `index` (0 to 9,999) of the walk."""
        if not 0 <= index < BLOCK_SIZE:
            raise ValueError("an index of a block is 0 to 9,999")
        left, right = divmod(index, _SIDE)
        for table in self._tables:
            left, right = right, (left + table[right]) % _SIDE
        return f"{self._block}{left * _SIDE + right:04d}"

    def numbers(self, start: int, count: int) -> list[str]:
        """The numbers from index `start` on, at most `count` and at most to the block's end."""
        return [self.number(index) for index in range(start, min(start + count, BLOCK_SIZE))]

    def __repr__(self) -> str:
        return f"<Permutation of {self._block}>"


@lru_cache(maxsize=_CACHED)
def _tables(key: bytes, block: str) -> tuple[bytes, ...]:
    """Round tables. 64 bits modulo 100 are biased by less than 2^-57."""
    own = hmac.digest(key, block.encode(), "sha256")
    return tuple(
        bytes(
            int.from_bytes(hmac.digest(own, bytes((turn, half)), "sha256")[:8], "big") % _SIDE
            for half in range(_SIDE)
        )
        for turn in range(_ROUNDS)
    )


@dataclass(frozen=True, slots=True)
class Window:
    """The next numbers of one block: those at indexes `start`, `start` + 1 and so on."""

    block: str
    start: int
    numbers: Sequence[str]


class Walk:
    """A pool's active blocks, and how far each was walked when last heard of. What it offers costs
    the same with three thousand blocks as with one."""

    def __init__(self, blocks: Iterable[tuple[str, int, str]]) -> None:
        """`blocks`: digits, cursor and area of each."""
        self._cursors: dict[str, int] = {}
        self._unwalked: dict[str, list[str]] = {}
        for block, cursor, area in blocks:
            self._cursors[block] = cursor
            for scope in scopes(area):
                self._unwalked.setdefault(scope, []).append(block)

    def moved(self, block: str, cursor: int) -> None:
        """A block's cursor as just learnt."""
        self._cursors[block] = cursor

    def windows(
        self,
        wanted: Mapping[str, int],
        permutation: Callable[[str], Permutation],
        below: Callable[[int], int],
    ) -> list[Window]:
        """At least as many fresh numbers per area (empty: any) as wanted, from blocks chosen
        unpredictably; fewer if there are no more. `below(n)` is a random number of 0 to n - 1."""
        chosen: dict[str, Window] = {}
        for scope, left in wanted.items():
            unwalked, at = self._unwalked.get(scope, []), 0
            while left > 0 and at < len(unwalked):
                pick = at + below(len(unwalked) - at)
                unwalked[at], unwalked[pick] = unwalked[pick], unwalked[at]
                block = unwalked[at]
                start = self._cursors[block]
                if start >= BLOCK_SIZE:
                    unwalked[at] = unwalked[-1]
                    unwalked.pop()
                    continue
                if block not in chosen:  # else an area before this one has it
                    chosen[block] = Window(block, start, permutation(block).numbers(start, left))
                left -= len(chosen[block].numbers)
                at += 1
        return list(chosen.values())


def scopes(area: str) -> tuple[str, ...]:
    """The areas whose leases a block of `area` serves: every one, its province, its city."""
    if not area:
        return ("",)
    province = f"{area[:2]}0000"
    return ("", area) if area == province else ("", province, area)
