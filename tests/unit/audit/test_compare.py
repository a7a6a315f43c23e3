"""The comparison's judgement; reading real topics is in tests/component/test_audit.py."""

from hashlib import sha256

from services.audit.compare import _differences, _Leaves
from services.audit.logfolder import Event
from tests.unit.audit.test_handlers import events

TOPIC = "binding.bindings.v1"
RANGES = {(TOPIC, 0): (0, 4)}


def leaves(*some: Event) -> _Leaves:
    found = _Leaves()
    for leaf, event in enumerate(some):
        found.add(leaf, event.entry)
    return found


def expected(event: Event, offset: int) -> tuple[tuple[str, int], int, bytes, bytes]:
    return (TOPIC, 0), offset, event.event_id, sha256(event.entry).digest()


def problems(found: _Leaves, *records: tuple[tuple[str, int], int, bytes, bytes]) -> list[str]:
    return [*found.problems, *_differences(records, found, RANGES)]


def test_agreement_with_a_repeat() -> None:
    one, two = events(2)
    again = (TOPIC, 0), 3, one.event_id, b"another digest: it stands elsewhere"
    assert problems(leaves(one, two), expected(one, 0), expected(two, 1), again) == []


def test_a_missing_leaf() -> None:
    one, two = events(2)
    found = problems(leaves(one), expected(one, 0), expected(two, 1))
    assert found == [f"{TOPIC}[0]@1: event e1 is no leaf"]


def test_a_changed_leaf() -> None:
    (one,) = events(1)
    (other,) = events(1, size=2)
    found = problems(leaves(one), expected(other, 0))
    assert found == [f"{TOPIC}[0]@0: the leaf is not what the topic has"]


def test_an_invented_leaf() -> None:
    one, two = events(2)
    found = problems(leaves(one, two), expected(one, 0))
    assert found == [f"{TOPIC}[0]@1: leaf of event e1 has no record"]


def test_a_doubled_leaf_and_a_wrong_order() -> None:
    one, two = events(2)
    found = leaves(two, one, two).problems
    assert found == [
        f"leaf 1: {TOPIC}[0]@0 is out of order",
        "leaf 2: event e1 is a leaf already",
    ]


def test_a_leaf_of_a_later_repeat() -> None:
    _, two = events(2)
    found = problems(leaves(two), expected(two, 0), expected(two, 1))
    assert f"{TOPIC}[0]@0: the leaf is of a later repeat" in found
