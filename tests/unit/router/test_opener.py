"""A route copy opens for its caller, at its place, and for nobody else."""

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from axbridge.router.v1 import events_pb2

from services.router.domain import Entry, Side
from services.router.opener import CallerSealer, CallerTagger, RouteOpener
from services.router.ports import KeyUnavailable
from services.router.subscriber import decode_key, decode_route
from services.router.view import Copy, Route
from services.runtime.clock import ManualClock
from services.runtime.keyring import EvidenceKeys, KeyDestroyed, MemoryKeyRing
from services.runtime.record import Record
from services.runtime.sealing import (
    PurgeSealer,
    SealBroken,
    Sealed,
    Tagger,
    open_evidence,
    route_associated,
)
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
    with pytest.raises(KeyUnavailable):  # options that it was not sealed with
        opener.callee(route.number, entry._replace(options="ring_seconds=30"), tag)
    with pytest.raises(KeyUnavailable):
        opener.callee("700123456789999", entry, tag)
    with pytest.raises(KeyUnavailable):
        RouteOpener(Keys(), MemoryKeyRing()).callee(route.number, entry, tag)
    over = ManualClock(datetime.fromtimestamp(route.expire_ms / 1000, UTC) + timedelta(days=2))
    with pytest.raises(KeyUnavailable):  # though its key is there: nobody has ended it
        RouteOpener(Keys(), world.keyring, over).callee(route.number, entry, tag)


def test_tags_are_those_of_the_bindings() -> None:
    ring, other = MemoryKeyRing(), MemoryKeyRing()
    clock = ManualClock()
    tagger = CallerTagger(ring, clock)
    for tenant in ("t1", "t2", "t1"):
        for caller in (A, B):
            assert tagger.party(tenant, caller) == Tagger(ring).party(tenant, caller)
    ring._keys["tags/t1"] = b"another".ljust(32)  # what is kept is used for a second more
    clock.advance(timedelta(seconds=1))
    assert tagger.party("t1", A) == Tagger(ring).party("t1", A)
    assert tagger.party("t1", A) != CallerTagger(other).party("t1", A)
    ring.destroy("tags/t1")
    clock.advance(timedelta(seconds=1))
    with pytest.raises(KeyDestroyed):
        tagger.party("t1", A)


class Sealing:
    """A CallerSealer, and `sealing` to open what it makes."""

    def __init__(self, folder: Path) -> None:
        self.ring = MemoryKeyRing()
        self.clock = ManualClock()
        self.sealer = CallerSealer(self.ring, EvidenceKeys.generate(folder), self.clock)
        self._private = EvidenceKeys.load_private(folder)

    def bucket(self, tenant: str, moment: str) -> tuple[str, bytes]:
        """Seals a caller, opens both copies; the purge bucket and the writer's public key."""
        time_ms = int(datetime.fromisoformat(moment).timestamp() * 1000)
        made = Sealed(
            *self.sealer.seal(tenant, time_ms, A, b"T" * 16, call=b"call", event=b"event")
        )
        secrets = events_pb2.CallSecrets.FromString(PurgeSealer(self.ring).open(made, b"event"))
        assert secrets.caller_tag == b"T" * 16
        copy = Sealed(secrets.caller_evidence.key_id, secrets.caller_evidence.box)
        assert open_evidence(self._private, self.ring, copy, b"call") == A.encode()
        assert copy.key_id.endswith("/" + made.key_id)
        with pytest.raises(SealBroken):
            PurgeSealer(self.ring).open(made, b"call")
        return made.key_id, copy.box[1:33]


def test_a_caller_is_sealed_as_sealing_does_it_in_the_bucket_of_its_day(tmp_path: Path) -> None:
    sealing = Sealing(tmp_path)
    evening, writer = sealing.bucket("t1", "2026-01-31T23:59:59.900+00:00")
    assert evening == "purge/t1/202607"
    assert sealing.bucket("t2", "2026-01-31T23:59:59.950+00:00") == ("purge/t2/202607", writer)
    night, another = sealing.bucket("t1", "2026-02-01T00:00:00+00:00")  # the ready one is over
    assert night == "purge/t1/202608"
    assert another != writer
    # A clock that is set back: the bucket follows the decision's time.
    assert sealing.bucket("t1", "2026-01-31T23:59:59+00:00")[0] == evening


def test_a_destroyed_bucket_is_sealed_into_for_a_second_at_most(tmp_path: Path) -> None:
    sealing, moment = Sealing(tmp_path), 1_800_000_000_000
    made, box = sealing.sealer.seal("t1", moment, A, b"T", call=b"c", event=b"e")
    sealing.ring.destroy(made)
    sealing.clock.advance(timedelta(seconds=0.9))
    assert sealing.sealer.seal("t1", moment + 5000, A, b"T", call=b"c", event=b"e")[1] == box
    sealing.clock.advance(timedelta(seconds=0.2))
    for _ in range(2):
        with pytest.raises(KeyDestroyed):
            sealing.sealer.seal("t1", moment, A, b"T", call=b"c", event=b"e")


def test_a_nonce_is_of_its_event_and_plaintext(tmp_path: Path) -> None:
    seal, moment = Sealing(tmp_path).sealer.seal, 1_800_000_000_000
    first = seal("t1", moment, A, b"T", call=b"c", event=b"e")
    assert seal("t1", moment, A, b"T", call=b"c", event=b"e") == first
    others = [
        seal("t1", moment, A, b"T", call=b"c", event=b"f"),
        seal("t1", moment, B, b"T", call=b"c", event=b"e"),
        seal("t1", moment, A, b"U", call=b"c", event=b"e"),
    ]
    assert len({box[1:13] for _, box in (first, *others)}) == 4


@pytest.mark.parametrize("side", [Side.A, Side.B])
def test_a_copy_is_opened_as_sealing_binds_it(side: Side) -> None:
    class NoKeys:
        def wrapped(self, key_id: str) -> Copy | None:
            return None

    opener = RouteOpener(NoKeys(), MemoryKeyRing())

    def told(_: bytes, bound: bytes) -> bytes:  # what it is asked
        return bound.hex().encode()

    opener._kept["k"] = told, math.inf, told
    for tenant in ("t1", "", "租户\ud800"):
        entry = Entry(tenant, "b", 2**40, True, side, 1, 3, 0, 99, 1, "i", "k", b"")
        assert bytes.fromhex(opener.callee("700", entry, b"\xff" * 16)) == route_associated(
            tenant=tenant, binding="b", number="700", version=2**40, mode=1, direction=3,
            max_call_minutes=0, expire_ms=99, side="b" if side == Side.A else "a",
            caller_tag=b"\xff" * 16,
        )  # fmt: skip
