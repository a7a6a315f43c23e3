"""The fold of denials: the newest record of an entry counts, whatever the order."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.denials import DENIALS, DENYING, POOLS, Denial, DenialEnd, apply, denied
from services.router.view import GRAVES, ROWS, purge
from services.runtime.errors import Malformed
from tests.unit.router.routes import DAY_MS, NUMBER, TAG_A, TAG_B, MemoryTables, route

POOL = "tenants/t1/pools/x"


def denial(
    entry: str = "e1", version: int = 1, expire_ms: int = 5_000, callee: bytes = b"", pool: str = ""
) -> Denial:
    return Denial(f"blacklist/t1/{entry}", "t1", version, pool, TAG_A, callee, expire_ms)


def end(entry: str = "e1", version: int = 2, time_ms: int = 1_000) -> DenialEnd:
    return DenialEnd(f"blacklist/t1/{entry}", version, time_ms)


def content(tables: MemoryTables) -> dict[bytes, dict[bytes, bytes]]:
    return {name: tables.tables.get(name, {}) for name in (DENIALS, DENYING, ROWS)}


def holds(
    tables: MemoryTables, now_ms: int = 0, callee: bytes = b"other", tenant: str = "t1"
) -> bool:
    return denied(tables.get, NUMBER, tenant, TAG_A, callee, now_ms)


def test_a_denial_holds_for_its_caller_until_its_time() -> None:
    tables = MemoryTables()
    assert not holds(tables)
    apply(tables, denial())
    assert holds(tables, 4_999)
    assert not holds(tables, 5_000)
    assert not denied(tables.get, NUMBER, "t1", TAG_B, TAG_A, 0)
    assert tables.get(DENYING, b"t1") == (1).to_bytes(4)


def test_a_pair_is_denied_in_its_direction() -> None:
    tables = MemoryTables()
    apply(tables, denial(callee=TAG_B))
    assert not holds(tables)
    assert holds(tables, callee=TAG_B)
    assert not denied(tables.get, NUMBER, "t1", TAG_B, TAG_A, 0)


@pytest.mark.parametrize("callee", [b"", TAG_B])
def test_a_pool_denies_through_its_numbers_only(callee: bytes) -> None:
    tables = MemoryTables()
    apply(tables, denial(callee=callee, pool=POOL))
    assert not holds(tables, callee=TAG_B)  # no route of the block has said which pool it feeds
    apply(tables, route(pool="tenants/t1/pools/y"))
    assert not holds(tables, callee=TAG_B)
    apply(tables, route("b2", pool=POOL))
    assert holds(tables, callee=TAG_B)
    assert not holds(tables, callee=TAG_B, tenant="t2")


def test_of_several_entries_of_a_target_each_ends_alone() -> None:
    tables = MemoryTables()
    for entry, until in (("e1", 5_000), ("e2", 9_000), ("e3", 7_000)):
        apply(tables, denial(entry, expire_ms=until))
    assert holds(tables, 8_999)
    apply(tables, end("e2"))
    assert holds(tables, 6_999)
    assert not holds(tables, 7_000)
    for entry in ("e1", "e3"):
        apply(tables, end(entry))
    assert not tables.tables[DENIALS]
    assert not tables.tables[DENYING]


def test_a_tombstone_leaves_a_grave_that_stale_records_meet() -> None:
    tables = MemoryTables()
    apply(tables, denial())
    assert apply(tables, end())
    assert not apply(tables, end())
    assert not apply(tables, denial())
    assert not holds(tables)
    assert apply(tables, denial(version=3))  # a heal's
    assert holds(tables)
    assert not tables.tables[GRAVES]
    assert not apply(tables, end(version=2))
    apply(tables, end(version=3))
    assert purge(tables, 1_000 + DAY_MS - 1) == 0
    assert purge(tables, 1_000 + DAY_MS) == 1
    assert not tables.tables[ROWS]


def test_a_grave_lasts_as_long_as_what_it_keeps_away_could_deny() -> None:
    tables = MemoryTables()
    apply(tables, denial(expire_ms=9 * DAY_MS))
    apply(tables, end(time_ms=1_000))
    assert purge(tables, 9 * DAY_MS - 1) == 0
    assert purge(tables, 9 * DAY_MS) == 1


def test_a_version_that_says_another_thing_is_no_replay() -> None:
    tables = MemoryTables()
    apply(tables, denial())
    assert not apply(tables, denial())
    for other in (denial(expire_ms=6_000), denial(callee=TAG_B)):
        with pytest.raises(Malformed, match="VERSION_CONTRADICTED"):
            apply(tables, other)


def test_a_route_names_the_pool_of_its_block() -> None:
    tables = MemoryTables()
    apply(tables, route(pool=POOL))
    apply(tables, route("b2", tenant="t2"))
    assert tables.tables[POOLS] == {f"{NUMBER[:11]}t1".encode(): POOL.encode()}
    assert tables.get(ROWS, f"{NUMBER}b1".encode())


RECORDS: list[Denial | DenialEnd] = [
    *(denial(f"e{n}", 1, 1_000 * n) for n in (1, 2, 3)), denial("e4", 3, 4_000, TAG_B),
    end("e1"), end("e2"), end("e4", 2), denial("e5", 1, 500, pool=POOL), end("e5", 2, 700),
]  # fmt: skip


@given(st.randoms(use_true_random=False), st.integers(0, len(RECORDS)))
def test_order_and_repeats_change_nothing(chance: random.Random, repeated: int) -> None:
    straight, shuffled = MemoryTables(), MemoryTables()
    for record in RECORDS:
        apply(straight, record)
    mixed = [*RECORDS, *RECORDS[:repeated]]
    chance.shuffle(mixed)
    for record in mixed:
        apply(shuffled, record)
    # A grave's end is that of the latest that was seen before it: later, if the entry came first.
    for tables in (straight, shuffled):
        for key, row in tables.tables[ROWS].items():
            tables.tables[ROWS][key] = row[:9] if row[0] == 3 else row
    assert content(shuffled) == content(straight)
