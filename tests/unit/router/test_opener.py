"""A route copy opens for its caller, at its place, and for nobody else."""

from pathlib import Path

import pytest

from services.router.domain import Entry, Side
from services.router.opener import RouteOpener
from services.router.ports import KeyUnavailable
from services.router.subscriber import decode_key, decode_route
from services.router.view import Copy, Route
from services.runtime.keyring import MemoryKeyRing
from services.runtime.record import Record
from services.runtime.sealing import Tagger
from tests.router_world import World, route_record
from tests.unit.router.decisions import A, B


def test_a_route_record_opens_for_its_caller_only(tmp_path: Path) -> None:
    world = World(tmp_path)
    route = decode_route(route_record(world))
    assert isinstance(route, Route)
    [key] = [decode_key(Record("k", 0, 0, k.key_id.encode(), k.SerializeToString(), [], 0))
             for k in world.wrapped_keys()]  # fmt: skip

    class Keys:
        asked = 0

        def wrapped(self, key_id: str) -> Copy | None:
            self.asked += 1
            return key.wrapped if key_id == key.key_id else None

    keys = Keys()
    opener = RouteOpener(keys, world.keyring)
    entry = Entry(
        route.tenant, "b1", 1, True, Side.A, 1, 1, 30, route.expire_ms, 1, "taxi",
        route.callee_b.key_id, route.callee_b.box,
    )  # fmt: skip
    tag = Tagger(world.keyring).party(world.tenant, A)
    assert opener.callee(route.number, entry, tag) == B
    assert opener.callee(route.number, entry, tag) == B
    assert keys.asked == 1
    with pytest.raises(KeyUnavailable):
        opener.callee(route.number, entry, b"X" * 16)
    with pytest.raises(KeyUnavailable):
        opener.callee("700123456789999", entry, tag)
    with pytest.raises(KeyUnavailable):
        RouteOpener(Keys(), MemoryKeyRing()).callee(route.number, entry, tag)
