"""What is remembered of a tenant saves a read and is dropped when it proves wrong."""

from typing import Any

import pytest

from services.binding.barriers import Barriers
from services.runtime.cell import Cell
from services.runtime.clock import ManualClock
from services.runtime.errors import FailedPrecondition
from tests.unit.binding.memory import POOL, binding

TAGS = (b"a" * 16, b"b" * 16)


class StubCell(Cell):
    """Answers what it is told, and counts."""

    def __init__(self, reply: list[bytes]) -> None:
        super().__init__("redis://127.0.0.1:1", "binding", "c0", "")
        self.reply = reply
        self.calls = 0

    async def call(self, function: str, keys: Any = (), args: Any = ()) -> list[Any]:
        assert (function, list(args)) == ("consented", [*TAGS, POOL])
        self.calls += 1
        return self.reply


async def test_a_tenant_without_consents_is_asked_for_once() -> None:
    cell = StubCell([b"OK", b"", b"", b"0"])
    barriers = Barriers(cell)
    for _ in range(3):
        assert await barriers.consented("didi", POOL, TAGS) == ("", "")
    assert cell.calls == 1
    barriers.changed("didi")
    cell.reply = [b"OK", b"c1", b"", b"1"]
    for _ in range(2):
        assert await barriers.consented("didi", POOL, TAGS) == ("c1", "")
    assert cell.calls == 3


async def test_refusals_name_the_side_and_nothing_else() -> None:
    barriers = Barriers(StubCell([b"CONSENT_MISSING", b"B"]))
    with pytest.raises(FailedPrecondition) as missing:
        await barriers.consented("didi", POOL, TAGS)
    assert (missing.value.reason, missing.value.metadata) == ("CONSENT_MISSING", {"party": "B"})


def test_a_create_says_what_it_rests_on() -> None:
    barriers = Barriers(StubCell([]))
    made = binding(ManualClock(), "b1", consent_a="c1")
    assert barriers.args(made) == ["c1", "", POOL, 1]
    assert barriers.keys("didi") == (
        "binding:{c0}:consents:didi",
        "binding:{c0}:blacklist:didi",
    )
