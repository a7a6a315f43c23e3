"""What a journal keeps of a decision comes back whole, at its place, and nowhere in clear."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.domain import Refusal, Verdict
from services.router.packed import JournalCipher, Packed, Unreadable, pack, unpack
from services.runtime.keyring import MemoryKeyRing
from tests.unit.router.decisions import CALL, ENTRY, NOW, NUMBER, A, decision

TEXT = st.text(max_size=60)


def test_a_connected_call() -> None:
    assert unpack(pack(decision())[1]) == Packed(
        NOW, 250, 3, 30, 0, 0, 1, NUMBER, "trunk-1", "t1", "b1", "taxi", b"T" * 16, A
    )


def test_a_verdict_stands_beside_the_side() -> None:
    for verdict in Verdict:
        made = unpack(pack(decision(verdict=verdict))[1])
        assert (made.verdict, made.calling_side) == (verdict, 1)


def test_refused_calls() -> None:
    found = unpack(pack(decision(Refusal.NOT_BOUND, entry=None))[1])
    assert (found.reason, found.cause, found.binding, found.caller) == (5, 21, "", A)
    stranger = ENTRY._replace(options="stranger=closed;stranger_play=1", caller_side=0)
    found = unpack(pack(decision(Refusal.NOT_BOUND, entry=stranger))[1])
    assert (found.cause, found.binding) == (16, "")
    foreign = unpack(pack(decision(Refusal.BLOCK_FOREIGN, entry=None, tenant=""))[1])
    assert (foreign.reason, foreign.cause, foreign.caller, foreign.tag) == (2, 1, "", b"")


@given(TEXT, TEXT, TEXT, TEXT, st.integers(0, 2**63), st.integers(0, 1440),
       st.sampled_from([None, *Refusal]))  # fmt: skip
def test_whatever_was_decided_is_packed_whole(
    tenant: str, binding: str, industry: str, trunk: str, version: int, minutes: int,
    refusal: Refusal | None,
) -> None:  # fmt: skip
    entry = ENTRY._replace(
        binding=binding, industry_id=industry, version=version, max_call_minutes=minutes
    )
    call = CALL._replace(trunk=trunk)
    made = unpack(pack(decision(refusal, entry=entry, tenant=tenant, call=call))[1])
    assert made[2:5] == (version, minutes, refusal or 0)
    assert made[7:12] == (NUMBER, trunk, tenant, binding, industry)
    assert A not in repr(made)


@given(st.binary(max_size=120))
def test_other_octets_are_unreadable(data: bytes) -> None:
    try:
        again = unpack(data)
    except Unreadable:
        return
    assert sum(map(len, map(str, again[7:12]))) <= len(data)


def test_cut_or_longer_ones_are_unreadable() -> None:
    data = pack(decision())[1]
    for other in (data[:-1], data + b"x", b""):
        with pytest.raises(Unreadable):
            unpack(other)


def test_a_box_opens_at_its_place_only() -> None:
    ring = MemoryKeyRing()
    ours, theirs = JournalCipher(ring, "r1-0-a"), JournalCipher(ring, "r1-0-b")
    box = ours.seal(7, b"plain", b"cmcc/1")
    assert JournalCipher(ring, "r1-0-a").open(7, box, b"cmcc/1") == b"plain"
    assert theirs.seal(7, b"plain", b"cmcc/1") != box  # a key of each journal's own
    for cipher, sequence, octets, call in (
        (theirs, 7, box, b"cmcc/1"),
        (ours, 8, box, b"cmcc/1"),
        (ours, 7, box, b"cmcc/2"),
        (ours, 7, box[:-1], b"cmcc/1"),
        (ours, 7, b"", b"cmcc/1"),
        (JournalCipher(MemoryKeyRing(), "r1-0-a"), 7, box, b"cmcc/1"),
    ):
        with pytest.raises(Unreadable, match="SEAL_BROKEN"):
            cipher.open(sequence, octets, call)
