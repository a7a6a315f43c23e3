"""What every caller of the cell's functions does with an answer: refuse by reason, wait for Kafka.

Refuses to call anything itself. Invariant: an answer that is passed on is no refusal.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from services.runtime import cell as cells
from services.runtime.cell import Cell
from services.runtime.errors import NotFound

SERVICE: Final = "allocator"
_FOLDER: Final = Path(__file__).parent / "store"
_ORDER: Final = (
    "wire", "context", "number", "tags", "blocks", "pools", "marks", "choose", "take", "imports",
    "lease", "follow", "lists", "rebuild",
)  # fmt: skip


def functions() -> str:
    """The text of allocator's function library."""
    return cells.library(SERVICE, [_FOLDER / f"{name}.lua" for name in _ORDER])


def checked(reply: Sequence[Any], pool: str = "", block: str = "") -> Sequence[Any]:
    """The answer, unless it says that there is no such thing. Raises NotFound."""
    if reply[0] == b"POOL_NOT_FOUND":
        raise NotFound("POOL_NOT_FOUND", "there is no such pool", pool=pool)
    if reply[0] == b"BLOCK_NOT_FOUND":
        raise NotFound("BLOCK_NOT_FOUND", "there is no such block", block=block)
    if reply[0] == b"NUMBER_NOT_FOUND":
        raise NotFound("NUMBER_NOT_FOUND", "no registered block holds the number")
    return reply


async def waited(cell: Cell, sequence: Any) -> None:
    """Returns once Kafka has the entry; at once for 0, which is there already."""
    if int(sequence):
        await cell.published(int(sequence))
