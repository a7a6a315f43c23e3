"""Which middle number somebody wants, as one value: binding is asked for it, allocator answers it.

Pure. Refuses nothing: selectionwire has checked what came in. Invariant: equal selections give
equal texts, and the selection of any number the empty one.
"""

import re
from dataclasses import dataclass
from typing import Final

_AREA: Final = re.compile(r"[1-9]\d\d\d00", re.ASCII)  # GB/T 2260 down to cities
MAX_AREAS: Final = 8


@dataclass(frozen=True, slots=True)
class Selection:
    """Which number is wanted: one by name, or areas in their order (`strict`: and no other); the
    parties' last one if it can be had; one at random."""

    number: str = ""
    areas: tuple[str, ...] = ()
    strict: bool = False
    sticky: bool = False
    random: bool = False

    @property
    def text(self) -> str:
        """All of it, in one form."""
        if self == ANY:
            return ""
        flags = f"{self.strict:d}{self.sticky:d}{self.random:d}"
        return f"{self.number};{','.join(self.areas)};{flags}"


ANY: Final = Selection()


def is_area(code: str) -> bool:
    """Whether it has the form of a province's or city's code."""
    return _AREA.fullmatch(code) is not None
