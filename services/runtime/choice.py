"""Which of a tenant's cells a party's bindings are made in (design decision 2).

Pure. Refuses to know tenants or stores. Invariant: the choice depends on the set of cells and the
tag alone, and a cell more or less moves only the parties that it gains or loses.
"""

import hashlib
from collections.abc import Sequence
from typing import Final

FIRST_CELL: Final = "c0"  # of before there were several: what it writes bears no cell's name


def chosen(cells: Sequence[str], tag: bytes) -> str:
    """The cell for the blind tag of party A: the highest of a hash of each with the tag."""
    if len(cells) == 1:
        return cells[0]
    return max(cells, key=lambda cell: hashlib.sha256(cell.encode() + b"\x1f" + tag).digest())
