"""The fold of the view: versions, replay, tombstones, many pairs, re-binding."""

import contextlib
import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.domain import Entry, Side
from services.router.entries import unpack_entry
from services.router.view import (
    ANYONE,
    BLOCKS,
    GRAVES,
    KEYS,
    ROWS,
    SLOTS,
    Copy,
    Route,
    RouteKey,
    Tables,
    Tombstone,
    apply,
    purge,
    slot_key,
    tenants,
)
from services.runtime.errors import Malformed
from tests.unit.router.routes import (
    DAY_MS,
    NUMBER,
    TAG_A,
    TAG_B,
    TAG_C,
    MemoryTables,
    route,
    tombstone,
)


def best(tables: Tables, tag: bytes, number: str = NUMBER) -> Entry | None:
    slot = tables.get(SLOTS, slot_key(number, tag))
    return unpack_entry(slot) if slot else None


def fold(tables: Tables, record: Route | Tombstone | RouteKey) -> None:
    """What contradicts a known version is parked, and changes nothing."""
    with contextlib.suppress(Malformed):
        apply(tables, record)


def folded(*records: Route | Tombstone | RouteKey) -> MemoryTables:
    tables = MemoryTables()
    for record in records:
        fold(tables, record)
    return tables


def test_each_party_reaches_the_other() -> None:
    tables = folded(route())
    a, b = best(tables, TAG_A), best(tables, TAG_B)
    assert a is not None
    assert b is not None
    assert (a.caller_side, a.box) == (Side.A, b"box of B")
    assert (b.caller_side, b.box) == (Side.B, b"box of A")
    assert best(tables, TAG_C) is None


def test_an_older_version_changes_nothing() -> None:
    tables = folded(route(version=3, active=False))
    assert not apply(tables, route(version=2))
    with pytest.raises(Malformed, match="VERSION_CONTRADICTED"):
        apply(tables, route(version=3))
    assert not apply(tables, route(version=3, active=False))
    found = best(tables, TAG_A)
    assert found is not None
    assert not found.active


def test_a_stale_record_behind_a_tombstone_revives_nothing() -> None:
    tables = folded(route(version=1), route(version=2, active=False), tombstone(version=2))
    assert best(tables, TAG_A) is None
    assert not apply(tables, route(version=1))
    assert not apply(tables, route(version=2))
    assert best(tables, TAG_A) is None


def test_a_tombstone_of_an_unknown_binding_guards_too() -> None:
    tables = folded(tombstone(version=2))
    assert not apply(tables, route(version=1))


def test_a_stale_tombstone_ends_nothing() -> None:
    tables = folded(route(version=5))
    assert not apply(tables, tombstone(version=4))
    assert best(tables, TAG_A) is not None


def test_a_grave_lasts_until_the_binding_could_connect_no_more() -> None:
    late = 9 * DAY_MS
    tables = folded(route(expire_ms=late), tombstone(time_ms=0))
    assert purge(tables, late - 1) == 0
    assert purge(tables, late) == 1
    assert tables.get(ROWS, f"{NUMBER}b1".encode()) is None
    assert tables.first(GRAVES) is None
    assert purge(tables, late) == 0


def test_a_newer_record_leaves_the_grave() -> None:
    tables = folded(route(), tombstone(version=2), route(version=3))
    assert tables.first(GRAVES) is None
    assert best(tables, TAG_A) is not None


def test_two_hundred_pairs_on_one_number() -> None:
    pairs = [
        route(f"b{i}", tags=((2 * i).to_bytes(16), (2 * i + 1).to_bytes(16))) for i in range(200)
    ]
    tables = folded(*pairs)
    for i in range(200):
        found = best(tables, (2 * i).to_bytes(16))
        assert found is not None
        assert found.binding == f"b{i}"
    apply(tables, route("b7", 2, active=False, tags=(pairs[7].tag_a, pairs[7].tag_b)))
    released = best(tables, pairs[7].tag_a)
    assert released is not None
    assert not released.active
    assert dict(tenants(tables.get(BLOCKS, NUMBER[:11].encode()) or b"")) == {"t1": 200}


def test_what_strangers_meet_comes_and_goes_with_the_binding() -> None:
    options = "stranger=closed"
    tables = folded(route(options=options))
    found = best(tables, ANYONE)
    assert found is not None
    assert (found.caller_side, found.options, found.box) == (Side.UNKNOWN, options, b"")
    party = best(tables, TAG_A)
    assert party is not None
    assert (party.caller_side, party.options) == (Side.A, options)
    apply(tables, route(version=2, options="colour=red"))  # nobody knows what strangers meet now
    assert best(tables, ANYONE) is None
    apply(tables, route(version=3, options=options))
    apply(tables, route(version=4, options=options, active=False))
    assert best(tables, ANYONE) is None


def test_anyone_reaches_a_of_mode_ax() -> None:
    tables = folded(route(mode=2, tags=(TAG_A, b"")))
    anyone, a = best(tables, ANYONE), best(tables, TAG_A)
    assert anyone is not None
    assert a is not None
    assert (anyone.caller_side, anyone.box) == (Side.UNKNOWN, b"box of A")
    assert a.caller_side == Side.A
    apply(tables, route(version=2))  # upgraded: B alone reaches A
    assert best(tables, ANYONE) is None
    assert best(tables, TAG_B) is not None


def test_extensions_of_a_number_are_counted_and_reach_their_a() -> None:
    number = NUMBER.encode()
    one = route("b1", mode=4, tags=(TAG_A, b""), options="extension=1")
    two = route("b2", mode=4, tags=(TAG_B, b""), options="extension=0022")
    tables = folded(one, two, two)
    assert int.from_bytes(tables.get(BLOCKS, number) or b"") == 2
    found = best(tables, b"0022")
    assert found is not None
    assert (found.caller_side, found.box) == (Side.UNKNOWN, b"box of B")
    ended = route("b1", 2, mode=4, tags=(TAG_A, b""), options="extension=1", active=False)
    apply(tables, ended)
    assert int.from_bytes(tables.get(BLOCKS, number) or b"") == 1
    apply(tables, tombstone("b1"))
    apply(tables, route("b2", 2, mode=4, tags=(TAG_B, b""), options="extension=7"))
    assert (best(tables, b"0022"), best(tables, b"1")) == (None, None)
    apply(tables, tombstone("b2", 3))
    assert tables.get(BLOCKS, number) is None


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_the_newest_binding_of_a_caller_counts_in_any_order(order: tuple[int, ...]) -> None:
    """b1 was released and b2 bound the same A with C; b1's records may come late, or repeated."""
    records = [
        route("b1", 1),
        route("b1", 2, active=False),
        route("b2", 1, tags=(TAG_A, TAG_C), lease_epoch=2),
        route("b1", 1),
    ]
    tables = folded(*(records[i] for i in order))
    found = best(tables, TAG_A)
    assert found is not None
    assert (found.binding, found.active, found.box) == ("b2", True, b"box of C")
    apply(tables, tombstone("b1"))
    found = best(tables, TAG_A)
    assert found is not None
    assert found.binding == "b2"


def test_a_block_is_learned_and_changes_hands() -> None:
    block = NUMBER[:11].encode()
    tables = folded(route(), tombstone())
    assert dict(tenants(tables.get(BLOCKS, block) or b"")) == {"t1": 0}
    apply(tables, route("b2", tenant="t2"))
    assert dict(tenants(tables.get(BLOCKS, block) or b"")) == {"t2": 1}


def test_keys_come_and_go() -> None:
    key = RouteKey("route/t1/20260101", Copy("route-wrapping", b"\x01box\n"))
    tables = folded(key)
    assert tables.get(KEYS, b"route/t1/20260101") == b"route-wrapping\n\x01box\n"
    apply(tables, RouteKey("route/t1/20260101", None))
    assert tables.get(KEYS, b"route/t1/20260101") is None


RECORDS = st.lists(
    st.one_of(
        st.builds(
            route,
            st.sampled_from(["b1", "b2"]),
            st.integers(1, 4),
            active=st.booleans(),
            lease_epoch=st.just(1),
            mode=st.sampled_from([1, 2, 4, 9]),
            options=st.sampled_from(["", "stranger=closed", "extension=12", "colour=red"]),
        ),
        st.builds(tombstone, st.sampled_from(["b1", "b2"]), st.integers(1, 4)),
    ),
    max_size=12,
)


@given(RECORDS)
def test_replaying_changes_nothing(records: list[Route | Tombstone]) -> None:
    tables = folded(*records)
    before = tables.content()
    for prefix in range(len(records)):
        for record in records[: prefix + 1]:
            fold(tables, record)
    assert tables.content() == before


@given(RECORDS, st.integers())
def test_bindings_do_not_depend_on_each_others_order(
    records: list[Route | Tombstone], seed: int
) -> None:
    of = {name: [r for r in records if r.binding == name] for name in ("b1", "b2")}
    mixed: list[Route | Tombstone] = []
    rest = {name: list(items) for name, items in of.items()}
    choose = random.Random(seed)
    while any(rest.values()):
        mixed.append(rest[choose.choice([name for name in rest if rest[name]])].pop(0))
    assert folded(*mixed).content() == folded(*records).content()
