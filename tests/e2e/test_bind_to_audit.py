"""The main job over all processes, with two routers that are both asked for every number."""

import time
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from signal import SIGCONT, SIGSTOP

import grpc
import pytest
from axbridge.audit.v1 import audit_service_pb2, entry_pb2
from axbridge.binding.v1 import binding_pb2, binding_service_pb2
from axbridge.router.v1 import call_pb2, events_pb2

from deploy.local.clients import create_request
from deploy.local.waiting import eventually
from services.audit import merkle
from services.audit.checkpoint import Checkpoint, NoteVerifier, open_checkpoint
from services.audit.proof import check_consistency, check_inclusion
from services.audit.reader import StoredTree
from services.audit.tilestore import FolderReader
from tests import leaks, scene
from tests.scene import Scene, digits, outcome, refusal, routes, uuid_of

OURS = ("BindingCreated", "BindingUpdated", "BindingReleased")


@dataclass
class Trip:
    """A binding with its parties and the calls that were placed."""

    binding: binding_pb2.Binding
    a: str
    b: str

    @property
    def number(self) -> str:
        return digits(self.binding)


def test_bind_to_audit(stage: Scene) -> None:
    stage.pool("rides")
    before = eventually(lambda: (now := signed(stage)).size and now, scene.PATIENCE)
    assert isinstance(before, Checkpoint)
    a, b, stranger = (stage.mobile() for _ in range(3))
    trip = Trip(stage.platform.bind("rides", a, b, "trip-1", max_call_minutes=30), a, b)
    both_reach_each_other_and_nobody_else(stage, trip, stranger)
    update_extends_and_a_stale_one_is_refused(stage, trip)
    stage.platform.release(trip.binding.name)
    for party in (a, b):
        routes(stage, party, trip.number, "RELEASED")
    each_call_has_its_record(stage, trip)
    every_event_is_found_and_proven(stage, trip, before)
    scene.sound(stage.cluster)
    no_real_number_is_in_clear(stage, [a, b, stranger], trip.number)


def both_reach_each_other_and_nobody_else(stage: Scene, trip: Trip, stranger: str) -> None:
    for caller, callee in ((trip.a, trip.b), (trip.b, trip.a)):
        routes(stage, caller, trip.number, callee)
        for place, switch in enumerate(stage.switches):
            call_id = f"{stage.tenant}/{'a' if caller == trip.a else 'b'}{place}"
            connect = switch.call(caller, f"+86{trip.number}", call_id).connect
            assert connect.callee.e164 == callee
            assert connect.display_number == trip.number
            assert connect.mark == "【号码保护】"
            assert connect.max_duration.ToTimedelta() == timedelta(minutes=30)
            assert connect.binding == trip.binding.name
            assert connect.binding_version == 1
            switch.talk(call_id, seconds=42)
    for place, switch in enumerate(stage.switches):
        answer = switch.call(stranger, trip.number, f"{stage.tenant}/s{place}")
        assert outcome(answer) == "NOT_BOUND"
        assert answer.refuse.q850_cause == 21
        for withheld in ("", "anonymous"):
            assert outcome(switch.call(withheld, trip.number)) == "CALLER_WITHHELD"
        assert outcome(switch.call("12", trip.number)) == "CALLER_INVALID"


def update_extends_and_a_stale_one_is_refused(stage: Scene, trip: Trip) -> None:
    updated = stage.platform.update(trip.binding, timedelta(hours=3))
    assert updated.version == 2
    assert updated.expire_time.ToDatetime() > trip.binding.expire_time.ToDatetime()
    stale = refusal(lambda: stage.platform.update(trip.binding, timedelta(hours=5)))
    assert stale == (grpc.StatusCode.ABORTED, "VERSION_STALE")
    assert stage.platform.get(trip.binding.name) == updated
    assert stage.platform.list(order_id="trip-1") == [updated]
    assert stage.platform.list(number=trip.binding.number) == [updated]
    routes(stage, trip.a, trip.number, trip.b)


def each_call_has_its_record(stage: Scene, trip: Trip) -> None:
    talks = {f"{stage.tenant}/{side}{place}" for side in "ab" for place in (0, 1)}
    refused = {f"{stage.tenant}/s{place}" for place in (0, 1)}

    def recorded() -> dict[str, events_pb2.CallRecorded]:
        found = (
            events_pb2.CallRecorded.FromString(record.value or b"")
            for record in stage.records("router.records.v1")
        )
        return {record.call_id: record for record in found if record.call_id in talks | refused}

    eventually(
        lambda: {call for call, r in recorded().items() if r.HasField("end_time")} >= talks,
        scene.PATIENCE,
        what="the records of the calls",
    )
    records = eventually(lambda: len(r := recorded()) == 6 and r, scene.PATIENCE)
    assert isinstance(records, dict)
    for call in talks:
        record = records[call]
        assert record.outcome == events_pb2.CALL_OUTCOME_ANSWERED
        assert record.duration.ToTimedelta() == timedelta(seconds=42)
        assert record.release_side == call_pb2.RELEASE_SIDE_CALLER
        assert record.q850_cause == 16
        assert (record.number, record.binding.binding) == (trip.number, uuid_of(trip.binding))
        side = events_pb2.CALLING_SIDE_A if "/a" in call else events_pb2.CALLING_SIDE_B
        assert record.calling_side == side
    for call in refused:
        assert records[call].outcome == events_pb2.CALL_OUTCOME_REFUSED
        assert records[call].refusal_reason == call_pb2.REFUSAL_REASON_NOT_BOUND
        assert not records[call].HasField("duration")


def every_event_is_found_and_proven(stage: Scene, trip: Trip, before: Checkpoint) -> None:
    binding = uuid_of(trip.binding)
    filters = {
        "binding": {"binding": binding},
        "order": {"tenant": stage.tenant, "order_id": "trip-1"},
        "number": {"number": trip.number},
        "tenant": {"tenant": stage.tenant},
    }
    found: dict[str, list[entry_pb2.Event]] = {}

    def all_found() -> bool:
        for name, by in filters.items():
            found[name] = stage.auditor.query(**by)
        return all(ours(events) == list(OURS) for events in found.values())

    eventually(all_found, scene.PATIENCE, what="the events of the binding in the index")
    eventually(
        lambda: Counter(map(short, stage.auditor.query(binding=binding)))["CallRecorded"] >= 4,
        scene.PATIENCE,
    )
    for name in filters:
        of_binding = [e for e in found[name] if short(e) in OURS]
        assert [uuid_in(e) for e in of_binding] == [binding] * 3, name
    everything = stage.auditor.query(binding=binding)
    after = signed(stage)
    tree = StoredTree(FolderReader(stage.cluster.log), after.size)
    assert {"CallRouted", "CallRecorded"} <= set(map(short, everything))
    for event in everything:
        proof = stage.auditor.inclusion(event.entry.event_id)
        root = opened(stage, proof.checkpoint.encode())
        assert (root.size, proof.leaf_index) == (proof.tree_size, event.leaf_index)
        stored = tree.entry(event.leaf_index)
        assert entry_pb2.Entry.FromString(stored) == event.entry
        assert proof.leaf_hash == merkle.leaf_hash(stored)
        check_inclusion(proof.leaf_hash, proof.leaf_index, root.size, list(proof.hashes), root.root)
    growth = stage.auditor.stub.GetConsistencyProof(
        audit_service_pb2.GetConsistencyProofRequest(
            first_size=before.size, second_size=after.size
        ),
        timeout=10,
    )
    assert after.size > before.size > 0
    check_consistency(before.size, before.root, after.size, after.root, list(growth.hashes))


def no_real_number_is_in_clear(stage: Scene, numbers: list[str], middle: str) -> None:
    folder, url = stage.cluster.folder, stage.cluster.brokers.valkey.url
    assert leaks.found_in_files(folder, [middle]), "the search finds what is there"
    assert leaks.found_in_store(url, [middle]), "the search finds what is there"
    assert leaks.found_in_files(folder, numbers) == []
    assert leaks.found_in_store(url, numbers) == []


def test_a_one_way_binding_connects_one_way(stage: Scene) -> None:
    stage.pool("rides")
    for direction, allowed in (
        (binding_pb2.CALL_DIRECTION_A_TO_B, True),
        (binding_pb2.CALL_DIRECTION_B_TO_A, False),
    ):
        a, b = stage.mobile(), stage.mobile()
        bound = stage.platform.bind("rides", a, b, "one-way", direction=direction)
        routes(stage, a, digits(bound), b if allowed else "DIRECTION")
        routes(stage, b, digits(bound), "DIRECTION" if allowed else a)


def test_expiry_is_exact_by_the_routers_clock_and_needs_no_event(stage: Scene) -> None:
    stage.pool("rides")
    a, b = stage.mobile(), stage.mobile()
    bound = stage.platform.bind("rides", a, b, "short", life=timedelta(seconds=4))
    expire = bound.expire_time.ToNanoseconds()
    routes(stage, a, digits(bound), b)
    binding = stage.cluster.services["binding"]
    binding.signal(SIGSTOP)  # no sweeper, no event
    try:
        seen: list[tuple[int, str]] = []

        def asked() -> bool:
            for switch in stage.switches:
                answer = switch.call(a, digits(bound))
                seen.append((answer.decide_time.ToNanoseconds(), outcome(answer)))
            return time.time_ns() > expire + 300_000_000

        eventually(asked, scene.PATIENCE, every_seconds=0.001)
        wrong = [each for each in seen if each[1] != (b if each[0] < expire else "EXPIRED")]
        assert wrong == []
        assert {b, "EXPIRED"} == {each[1] for each in seen}
    finally:
        binding.signal(SIGCONT)
    eventually(
        lambda: stage.platform.get(bound.name).state == binding_pb2.BINDING_STATE_RELEASED,
        scene.PATIENCE,
        what="the sweeper",
    )
    released = stage.platform.get(bound.name)
    assert released.release_reason == binding_pb2.RELEASE_REASON_EXPIRED
    assert released.version == 2
    ended = refusal(lambda: stage.platform.update(released, timedelta(hours=1)))
    assert ended == (grpc.StatusCode.FAILED_PRECONDITION, "BINDING_ENDED")


def test_the_same_request_gives_the_same_binding_and_another_body_is_refused(stage: Scene) -> None:
    stage.pool("rides")
    a, b, c = (stage.mobile() for _ in range(3))
    request = create_request(stage.tenant, "rides", a, b, "trip-1")
    bound = stage.platform.create(request)
    again = binding_service_pb2.CreateBindingRequest()
    again.CopyFrom(request)
    again.number_a.e164 = a.removeprefix("+86")  # written differently, the same number
    assert stage.platform.create(again) == bound
    again.number_b.e164 = c
    reused = refusal(lambda: stage.platform.create(again))
    assert reused == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")
    eventually(lambda: stage.pools.statistics("rides").pairs == 1, scene.PATIENCE)
    assert len(stage.platform.list(order_id="trip-1")) == 1


@pytest.mark.parametrize("version", [0, 1])
def test_release_is_idempotent(stage: Scene, version: int) -> None:
    stage.pool("rides")
    a, b = stage.mobile(), stage.mobile()
    bound = stage.platform.bind("rides", a, b, "trip-1")
    request = binding_service_pb2.ReleaseBindingRequest(name=bound.name, version=version)
    first = stage.platform.stub.ReleaseBinding(request, timeout=10)
    assert stage.platform.release(bound.name) == first
    assert (first.version, first.release_reason) == (2, binding_pb2.RELEASE_REASON_REQUESTED)
    routes(stage, b, digits(bound), "RELEASED")


def short(event: entry_pb2.Event) -> str:
    return event.entry.type.rsplit(".", 1)[1]


def ours(events: list[entry_pb2.Event]) -> list[str]:
    return [short(event) for event in events if short(event) in OURS]


def uuid_in(event: entry_pb2.Event) -> str:
    """The binding in the record's key, `<number>/<binding>`."""
    return event.entry.key.decode().rpartition("/")[2]


def signed(stage: Scene) -> Checkpoint:
    return opened(stage, stage.auditor.checkpoint().checkpoint.encode())


def opened(stage: Scene, note: bytes) -> Checkpoint:
    verifier = NoteVerifier.parse(stage.cluster.vkey)
    return open_checkpoint(note, [verifier], verifier.name)
