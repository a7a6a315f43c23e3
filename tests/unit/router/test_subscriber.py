"""Records of the route topics: what is applied, and what is parked."""

from pathlib import Path

import pytest

from services.router.subscriber import decode_key, decode_route
from services.router.view import Route, Tombstone
from services.runtime.errors import Malformed
from services.runtime.record import Record
from tests.router_world import World, envelope, now_ms, route_record
from tests.unit.router.decisions import NUMBER, A, B


@pytest.mark.parametrize(
    "change",
    [{"mode": 0}, {"mode": 256}, {"options": "x" * 4097}, {"options": "ä"}, {"state": 0},
     {"tag_a": b"short"}, {"tenant": ""}, {"version": 0}, {"number": "700123456789999"},
     {"binding": "other"}, {"direction": 9},
     {"max_call_minutes": 1441}, {"tenant": "t" * 200}],
)  # fmt: skip
def test_routes_that_are_parked(tmp_path: Path, change: dict[str, object]) -> None:
    world = World(tmp_path)
    good = route_record(world)
    route = decode_route(good)
    assert isinstance(route, Route)
    message = world.route(route.number, "b1", A, B)
    for name, value in change.items():
        setattr(message, name, value)
    bad = Record("routes", 0, 0, good.key, message.SerializeToString(), envelope(), 0)
    with pytest.raises(Malformed):
        decode_route(bad)


@pytest.mark.parametrize("change", [{"mode": 7}, {"options": "colour=red"}])
def test_terms_of_a_later_version_end_the_older_ones(
    tmp_path: Path, change: dict[str, object]
) -> None:
    route = decode_route(route_record(World(tmp_path), **change))
    assert isinstance(route, Route)
    assert all(getattr(route, name) == value for name, value in change.items())


def test_tombstones_and_nonsense() -> None:
    ended = decode_route(Record("routes", 0, 0, f"{NUMBER}/b1".encode(), None, envelope(7), 0))
    assert isinstance(ended, Tombstone)
    assert (ended.number, ended.binding, ended.version) == (NUMBER, "b1", 7)
    assert abs(ended.time_ms - now_ms()) < 60_000
    for key, value in ((b"\xff", b""), (b"x/b", b""), (NUMBER.encode(), b""),
                       (f"{NUMBER}/b1".encode(), b"\xff\xff")):  # fmt: skip
        with pytest.raises(Malformed):
            decode_route(Record("routes", 0, 0, key, value, envelope(), 0))
    for key, value in ((b"\xff", b""), (b"k", b"\xff"), (b"k", b"")):
        with pytest.raises(Malformed):
            decode_key(Record("keys", 0, 0, key, value, [], 0))
