"""The parties of a number that has ended rest from it: how long, and who may have it again."""

from typing import Any, Final

import pytest

from tests.contract.test_binding_store import Subject, s

__all__ = ["s"]  # a fixture

PAIRED: Final[dict[str, Any]] = {"cooling_ms": 300, "pair_cooling_ms": 60_000}
SHARED: Final[dict[str, Any]] = {"cooling_ms": 60_000, "exclusive": False}


async def test_a_pair_rests_longer_than_its_exclusive_number(s: Subject) -> None:
    first = s.new(1, 2, **PAIRED)
    await s.create(first)
    await s.release(first)
    assert await s.refused(s.new(3, 4, **PAIRED)) == "NUMBER_COOLING"
    await s.wait(301)
    assert await s.refused(s.new(1, 2, **PAIRED)) == "PARTY_ON_NUMBER"
    assert await s.refused(s.new(3, 2, **PAIRED)) == "PARTY_ON_NUMBER"
    assert await s.refused(s.new(3, 4, **PAIRED)) == ""


async def test_a_sticky_lease_gives_the_number_again_to_its_last_parties_alone(s: Subject) -> None:
    first = s.new(1, 2, **PAIRED)
    await s.create(first)
    assert await s.refused(s.new(1, 2, **PAIRED), sticky=True) == "NUMBER_OCCUPIED"
    await s.release(first)
    assert await s.refused(s.new(1, 2, **PAIRED)) == "NUMBER_COOLING", "it is not sticky"
    for a, b in ((1, 3), (3, 2), (3, 4)):
        assert await s.refused(s.new(a, b, **PAIRED), sticky=True) == "NUMBER_COOLING"
    again = s.new(2, 1, **PAIRED)
    await s.create(again, sticky=True)
    await s.release(again)
    await s.wait(301)
    others = s.new(3, 4, **PAIRED)
    await s.create(others)
    await s.release(others)
    assert await s.refused(s.new(1, 2, **PAIRED), sticky=True) == "NUMBER_COOLING"
    await s.wait(301)
    assert await s.refused(s.new(1, 2, **PAIRED), sticky=True) == "PARTY_ON_NUMBER"
    assert await s.refused(s.new(3, 4, **PAIRED), sticky=True) == ""


async def test_a_sticky_lease_of_a_shared_number(s: Subject) -> None:
    first, other = s.new(1, 2, **SHARED), s.new(3, 4, **SHARED)
    await s.create(first)
    await s.create(other)
    assert await s.refused(s.new(1, 2, **SHARED), sticky=True) == "PARTY_ON_NUMBER"
    await s.release(first)
    await s.wait(1)
    await s.release(other)
    for a, b in ((1, 3), (1, 4), (1, 5)):
        wrong = await s.refused(s.new(a, b, **SHARED), sticky=True)
        assert wrong == "PARTY_ON_NUMBER", "they were not on it together"
    assert await s.refused(s.new(1, 2, **SHARED)) == "PARTY_ON_NUMBER"
    assert await s.refused(s.new(1, 2, **SHARED), sticky=True) == ""


@pytest.mark.parametrize("terms", [PAIRED, SHARED])
async def test_what_remembers_a_pair_is_kept_as_long_as_it_rests(
    s: Subject, terms: dict[str, Any]
) -> None:
    binding = s.new(1, 2, **{**terms, "cooling_ms": 300, "pair_cooling_ms": 7 * 86_400_000})
    await s.create(binding)
    ended = await s.release(binding)
    assert ended.forget_ms == ended.release_ms + 7 * 86_400_000
    assert (await s.read(binding)).binding.pair_cooling_ms == 7 * 86_400_000
