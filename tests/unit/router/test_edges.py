"""The edges of a worker: requests in, events and answers out, route copies opened."""

from pathlib import Path

import pytest
from axbridge.router.v1 import call_pb2, events_pb2
from axbridge.router.v1 import router_service_pb2 as rpc
from hypothesis import given
from hypothesis import strategies as st

from services.router.domain import Call, Decision, Entry, Progress, Refusal, Side
from services.router.handlers import Router
from services.router.opener import RouteOpener
from services.router.ports import Found, KeyUnavailable
from services.router.recorder import JournalRecorder, caller_associated, event_associated
from services.router.segments import KINDS, PROGRESSED, REFUSED, ROUTED
from services.router.servicer import RouterServicer
from services.router.subscriber import decode_key, decode_route
from services.router.translate import call_from, progress_from, response_from, timestamp
from services.router.view import Copy, Route, Tombstone
from services.runtime.clock import ManualClock
from services.runtime.errors import InvalidArgument, Malformed
from services.runtime.keyring import EvidenceKeys, MemoryKeyRing
from services.runtime.metrics import Metrics
from services.runtime.record import Record
from services.runtime.sealing import EvidenceWriter, PurgeSealer, Sealed, Tagger, open_evidence
from tests.router_world import World, envelope, now_ms
from tests.unit.router.test_handlers import MemoryOpener, MemoryRecorder, MemoryRoutes

A, B = "+8613812345678", "+8613912345678"
NUMBER, NOW = "700123456780001", 1_800_000_000_123
ENTRY = Entry("t1", "b1", 3, True, Side.A, 1, 1, 30, NOW + 1000, 1, "taxi", "k", b"box")
CALL = Call("cmcc", "c1", A, NUMBER, "trunk-1")


class MemoryJournal:
    def __init__(self) -> None:
        self.written: list[tuple[int, int, bytes, bytes]] = []

    def append(self, kind: int, time_ms: int, key: bytes, value_of: object) -> int:
        sequence = len(self.written) + 1
        self.written.append((kind, time_ms, key, value_of("r1-0-a", sequence)))  # type: ignore[operator]
        return sequence


def decision(refusal: Refusal | None = None, **more: object) -> Decision:
    fields = {
        "call": CALL, "time_ms": NOW, "age_ms": 250, "number": NUMBER, "tenant": "t1",
        "entry": ENTRY, "refusal": refusal, "callee": "" if refusal else B, "caller": A,
        "tag": b"T" * 16, **more,
    }  # fmt: skip
    return Decision(**fields)  # type: ignore[arg-type]


def recorder(tmp_path: Path) -> tuple[JournalRecorder, MemoryJournal, MemoryKeyRing]:
    journal, ring = MemoryJournal(), MemoryKeyRing()
    public = EvidenceKeys.generate(tmp_path)
    made = JournalRecorder(journal, PurgeSealer(ring), EvidenceWriter(public, ring))  # type: ignore[arg-type]
    return made, journal, ring


def test_a_routed_event_says_everything_but_who_called(tmp_path: Path) -> None:
    record, journal, ring = recorder(tmp_path)
    record.decided(decision())
    [(kind, time_ms, key, value)] = journal.written
    assert (kind, time_ms, key) == (ROUTED, NOW, b"cmcc/c1")
    event = events_pb2.CallRouted.FromString(value)
    assert (event.fact.journal, event.fact.journal_sequence) == ("r1-0-a", 1)
    assert (event.fact.time.seconds, event.fact.time.nanos) == (NOW // 1000, 123_000_000)
    assert (event.number, event.trunk, int(event.calling_side)) == (NUMBER, "trunk-1", 1)
    assert (event.binding.tenant, event.binding.binding, event.binding.version) == ("t1", "b1", 3)
    assert event.max_duration.seconds == 1800
    assert event.view_age.nanos == 250_000_000
    for digits in (A[3:], B[3:]):
        assert digits.encode() not in value
    assert b"T" * 16 not in value
    bound = event_associated("cmcc", "c1", "r1-0-a", 1)
    opened = PurgeSealer(ring).open(Sealed(event.secrets.key_id, event.secrets.box), bound)
    secrets = events_pb2.CallSecrets.FromString(opened)
    assert secrets.caller_tag == b"T" * 16
    copy = Sealed(secrets.caller_evidence.key_id, secrets.caller_evidence.box)
    private = EvidenceKeys.load_private(tmp_path)
    assert open_evidence(private, ring, copy, caller_associated("cmcc", "c1")) == A.encode()


def test_a_refused_event(tmp_path: Path) -> None:
    record, journal, _ = recorder(tmp_path)
    record.decided(decision(Refusal.EXPIRED))
    record.decided(decision(Refusal.NOT_BOUND, entry=None))
    record.decided(decision(Refusal.BLOCK_FOREIGN, entry=None, tenant="", tag=b""))
    record.decided(decision(Refusal.CALLER_WITHHELD, entry=None, caller="", tag=b""))
    events = [events_pb2.CallRefused.FromString(value) for _, _, _, value in journal.written]
    assert {kind for kind, _, _, _ in journal.written} == {REFUSED}
    assert [e.reason for e in events] == [6, 5, 2, 3]
    assert [e.q850_cause for e in events] == [21, 21, 1, 21]
    assert [e.binding.binding for e in events] == ["b1", "", "", ""]
    assert [e.HasField("secrets") for e in events] == [True, True, False, False]
    assert not events[2].HasField("binding")  # no tenant: the caller is not recorded


def test_a_report_event(tmp_path: Path) -> None:
    record, journal, _ = recorder(tmp_path)
    record.progressed(Progress("cmcc", "c1", 2, 4, 3, NOW, 16, 1), NOW + 5)
    [(kind, time_ms, _, value)] = journal.written
    event = events_pb2.CallProgressed.FromString(value)
    assert (kind, time_ms) == (PROGRESSED, NOW + 5)
    assert (event.leg, event.sequence, event.kind, event.q850_cause) == (2, 4, 3, 16)
    assert [KINDS[ROUTED], KINDS[REFUSED], KINDS[PROGRESSED]] == [
        m.DESCRIPTOR.full_name
        for m in (events_pb2.CallRouted, events_pb2.CallRefused, events_pb2.CallProgressed)
    ]


def test_answers() -> None:
    connect = response_from(decision()).connect
    assert (connect.callee.e164, connect.display_number, connect.mark) == (
        B,
        NUMBER,
        "【号码保护】",
    )
    assert connect.max_duration.seconds == 1800
    assert connect.binding == "tenants/t1/bindings/b1"
    answer = response_from(decision(Refusal.DIRECTION))
    assert not answer.HasField("connect")
    assert (answer.refuse.reason, answer.refuse.q850_cause) == (8, 21)
    assert answer.refuse.announcement == "wrong-direction"
    assert answer.view_age.nanos == 250_000_000
    assert answer.decide_time.seconds == NOW // 1000


@given(st.tuples(st.text(), st.text(), st.text(), st.text(), st.text()))
def test_any_request_is_a_call_or_refused(texts: tuple[str, ...]) -> None:
    call_id, carrier, caller, dialled, trunk = (t.encode(errors="ignore").decode() for t in texts)
    request = rpc.RouteCallRequest(
        call_id=call_id, carrier=carrier, caller=caller, dialled=dialled, trunk=trunk
    )
    try:
        answer = call_from(request).call_id
    except InvalidArgument as error:
        answer = error.reason
    assert answer in (call_id, "CALL_INVALID")


@pytest.mark.parametrize(
    ("field", "value"),
    [("leg", 0), ("leg", 3), ("kind", 0), ("kind", 9), ("sequence", 0), ("q850_cause", 128),
     ("release_side", 4), ("q850_cause", -1)],
)  # fmt: skip
def test_reports_are_checked(field: str, value: int) -> None:
    good = rpc.ReportCallEventRequest(
        call_id="c1", carrier="cmcc", leg=1, sequence=1, kind=3, event_time=timestamp(NOW)  # type: ignore[arg-type]
    )  # fmt: skip
    assert progress_from(good) == Progress("cmcc", "c1", 1, 1, 3, NOW, 0, 0)
    setattr(good, field, value)
    with pytest.raises(InvalidArgument, match=f"INVALID_FIELD field={field}"):
        progress_from(good)


def test_a_report_needs_its_time() -> None:
    request = rpc.ReportCallEventRequest(call_id="c1", carrier="cmcc", leg=1, sequence=1, kind=3)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="event_time"):
        progress_from(request)


def test_the_servicer_counts_by_reason() -> None:
    metrics = Metrics("router")
    routes = MemoryRoutes(_found_nothing())
    handler = Router(routes, MemoryOpener(), MemoryRecorder(), ManualClock(), 900_000)
    servicer = RouterServicer(handler, metrics)
    answer = servicer.RouteCall(
        rpc.RouteCallRequest(call_id="1", carrier="c", dialled=NUMBER), None
    )
    assert answer.refuse.reason == call_pb2.REFUSAL_REASON_BLOCK_FOREIGN
    sample = metrics.registry.get_sample_value(
        "router_decisions_total", {"reason": "BLOCK_FOREIGN"}
    )
    assert sample == 1


def _found_nothing() -> Found:
    return Found((), "", b"", None)


def record_of(world: World, **more: object) -> Record:
    route = world.route(world.number(), "b1", A, B)
    for name, value in more.items():
        setattr(route, name, value)
    key = f"{route.number}/{route.binding}".encode()
    return Record("routes", 0, 0, key, route.SerializeToString(), envelope(), 0)


def test_a_route_record_opens_for_its_caller_only(tmp_path: Path) -> None:
    world = World(tmp_path)
    route = decode_route(record_of(world))
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


@pytest.mark.parametrize(
    "change",
    [{"mode": 0}, {"mode": 7}, {"state": 0}, {"tag_a": b"short"}, {"tenant": ""}, {"version": 0},
     {"number": "700123456789999"}, {"binding": "other"}, {"direction": 9},
     {"max_call_minutes": 1441}, {"tenant": "t" * 200}],
)  # fmt: skip
def test_routes_that_are_parked(tmp_path: Path, change: dict[str, object]) -> None:
    world = World(tmp_path)
    good = record_of(world)
    route = decode_route(good)
    assert isinstance(route, Route)
    message = world.route(route.number, "b1", A, B)
    for name, value in change.items():
        setattr(message, name, value)
    bad = Record("routes", 0, 0, good.key, message.SerializeToString(), envelope(), 0)
    with pytest.raises(Malformed):
        decode_route(bad)


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
