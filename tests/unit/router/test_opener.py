"""A route copy opens for its caller, at its place, and for nobody else."""

from pathlib import Path

import pytest

from services.router.domain import Entry, Side
from services.router.opener import CallerTagger, RouteOpener
from services.router.ports import KeyUnavailable
from services.router.subscriber import decode_key, decode_route
from services.router.view import Copy, Route
from services.runtime.keyring import KeyDestroyed, MemoryKeyRing
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


def test_tags_are_those_of_the_bindings() -> None:
    ring, other = MemoryKeyRing(), MemoryKeyRing()
    tagger = CallerTagger(ring)
    for tenant in ("t1", "t2", "t1"):
        for caller in (A, B):
            assert tagger.party(tenant, caller) == Tagger(ring).party(tenant, caller)
    ring._keys["tags/t1"] = b"another".ljust(32)  # what is kept is not used with another key
    assert tagger.party("t1", A) == Tagger(ring).party("t1", A)
    assert tagger.party("t1", A) != CallerTagger(other).party("t1", A)
    ring.destroy("tags/t1")
    with pytest.raises(KeyDestroyed):
        tagger.party("t1", A)
