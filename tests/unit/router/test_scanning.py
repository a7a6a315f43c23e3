"""Random dialling is stopped for one caller on one trunk, and for no longer than it has to."""

from services.router.domain import Call
from services.router.scanning import Scanning

MINUTE = 60_000
START = 30_000_000 * MINUTE
CALL = Call("cmcc", "c1", "13812345678", "7001", "trunk-1")
A, B = "+8613812345678", "+8613912345678"


def missed(scanning: Scanning, times: int, at: int = START, caller: str = A) -> None:
    for _ in range(times):
        scanning.missed(CALL, caller, at)


def test_one_caller_on_one_trunk_is_stopped_at_the_limit() -> None:
    scanning = Scanning(limit=3)
    missed(scanning, 2)
    assert not scanning.stopped
    missed(scanning, 1)
    assert scanning.stops(CALL, A, START)
    assert not scanning.stops(CALL, B, START)
    assert not scanning.stops(CALL._replace(trunk="trunk-2"), A, START)
    assert not scanning.stops(CALL._replace(carrier="cucc"), A, START)


def test_until_its_minute_and_the_next_are_over() -> None:
    scanning = Scanning(limit=3)
    missed(scanning, 3)
    for at, stopped in (
        (59_999, True),
        (MINUTE, True),
        (2 * MINUTE - 1, True),
        (2 * MINUTE, False),
    ):
        assert scanning.stops(CALL, A, START + at) is stopped
    assert not scanning.stopped
    missed(scanning, 3)
    assert not scanning.stops(CALL, A, START + 2 * MINUTE)  # nobody called in between


def test_misses_of_another_minute_do_not_count() -> None:
    scanning = Scanning(limit=3)
    missed(scanning, 2)
    missed(scanning, 2, START + MINUTE)
    assert not scanning.stopped


def test_who_has_no_number_and_who_is_not_limited_is_not_counted() -> None:
    scanning = Scanning(limit=3)
    missed(scanning, 9, caller="")
    assert not scanning.stopped
    unlimited = Scanning(limit=0)
    missed(unlimited, 9)
    assert not unlimited.stopped


def test_memory_is_bounded_and_holds_no_number() -> None:
    scanning = Scanning(limit=2)
    for serial in range(70_000):
        scanning.missed(CALL, f"+86138{serial:08d}", START)
    assert len(scanning._counts) == 65_536
    missed(scanning, 2, caller="+8613800000000")
    assert scanning.stops(CALL, "+8613800000000", START)
    assert {type(key) for key in scanning._counts} == {int}
