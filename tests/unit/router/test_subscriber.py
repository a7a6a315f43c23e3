"""Records of the route topics: what is applied, and what is parked."""

from pathlib import Path
from typing import Any

import pytest
from axbridge.binding.v1 import events_pb2
from axbridge.router.v1 import events_pb2 as router_events
from axbridge.type.v1 import sealed_pb2

from services.router.denials import Denial, DenialEnd
from services.router.lastcalls import LastCall
from services.router.subscriber import decode_caller, decode_denial, decode_key, decode_route
from services.router.translate import timestamp
from services.router.view import Copy, Route, Tombstone
from services.runtime.errors import Malformed
from services.runtime.record import Record
from tests.router_world import World, envelope, now_ms, route_record
from tests.unit.router.decisions import NUMBER, A, B


@pytest.mark.parametrize(
    "change",
    [{"mode": 0}, {"mode": 256}, {"options": "x" * 4097}, {"options": "ä"}, {"state": 0},
     {"tag_a": b"short"}, {"tenant": ""}, {"version": 0}, {"number": "700123456789999"},
     {"binding": "other"}, {"direction": 9},
     {"max_call_minutes": 1441}, {"tenant": "t" * 200}, {"pool": "p" * 200}],
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


LAST = router_events.LastCaller(
    tenant="t1", binding="b1", number=NUMBER, time=timestamp(1000), expire_time=timestamp(61_000),
    caller=sealed_pb2.Sealed(key_id="route/t1/20260101", box=b"box"),
)  # fmt: skip
LAST_KEY = f"{NUMBER}/b1".encode()


def test_a_last_caller_is_read() -> None:
    read = decode_caller(Record("callers", 0, 0, LAST_KEY, LAST.SerializeToString(), [], 0))
    assert read == LastCall(NUMBER, "b1", 1000, 61_000, Copy("route/t1/20260101", b"box"))


@pytest.mark.parametrize(
    "change",
    [{"number": "700123456789999"}, {"binding": "b2"}, {"time": timestamp(61_000)},
     {"time": None}, {"expire_time": timestamp(1000 + 8 * 86_400_000)}, {"caller": None},
     {"caller": sealed_pb2.Sealed(box=b"box")}],
)  # fmt: skip
def test_last_callers_that_are_parked(change: dict[str, Any]) -> None:
    bad = router_events.LastCaller()
    bad.CopyFrom(LAST)
    for name, value in change.items():
        bad.ClearField(name)  # type: ignore[arg-type]
        if value is not None:
            bad.MergeFrom(router_events.LastCaller(**{name: value}))
    with pytest.raises(Malformed, match="CALLER_MALFORMED"):
        decode_caller(Record("callers", 0, 0, LAST_KEY, bad.SerializeToString(), [], 0))


@pytest.mark.parametrize(("key", "value"), [(b"x", b""), (LAST_KEY, None), (LAST_KEY, b"\xff")])
def test_what_is_no_last_caller_is_parked(key: bytes, value: bytes | None) -> None:
    with pytest.raises(Malformed, match="CALLER_MALFORMED"):
        decode_caller(Record("callers", 0, 0, key, value, [], 0))


DENIAL_KEY = b"blacklist/t1/e1"


def denial(**changes: object) -> Record:
    message = events_pb2.Denial(
        tenant="t1", entry="e1", version=1, pool="tenants/t1/pools/x", caller_tag=b"a" * 16,
        callee_tag=b"b" * 16,
    )  # fmt: skip
    message.expire_time.FromMilliseconds(5_123)
    for name, value in changes.items():
        setattr(message, name, value)
    return Record("denials", 0, 0, DENIAL_KEY, message.SerializeToString(), envelope(), 0)


def test_a_denial_is_what_binding_says() -> None:
    made = decode_denial(denial())
    assert made == Denial(
        DENIAL_KEY.decode(), "t1", 1, "tenants/t1/pools/x", b"a" * 16, b"b" * 16, 5_123
    )
    alone = decode_denial(denial(callee_tag=b"", pool=""))
    assert isinstance(alone, Denial)
    assert (alone.callee, alone.pool) == (b"", "")
    ended = decode_denial(Record("denials", 0, 0, DENIAL_KEY, None, envelope(2), 0))
    assert isinstance(ended, DenialEnd)
    assert (ended.key, ended.version) == (DENIAL_KEY.decode(), 2)
    assert abs(ended.time_ms - now_ms()) < 60_000


@pytest.mark.parametrize(
    "change",
    [{"tenant": ""}, {"entry": "other"}, {"version": 0}, {"pool": "p" * 200},
     {"caller_tag": b"short"}, {"callee_tag": b"short"}],
)  # fmt: skip
def test_denials_that_are_parked(change: dict[str, object]) -> None:
    with pytest.raises(Malformed):
        decode_denial(denial(**change))


def test_nonsense_is_no_denial() -> None:
    for key, value in (
        (b"\xff", b""),
        (DENIAL_KEY, b"\xff"),
        (DENIAL_KEY, b""),
        (b"k" * 193, None),
    ):
        with pytest.raises(Malformed):
            decode_denial(Record("denials", 0, 0, key, value, envelope(), 0))
