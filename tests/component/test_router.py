"""The router's real processes on a real Kafka: binding's records in, decisions and CDRs out."""

import json
import random
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from axbridge.router.v1 import call_pb2, events_pb2
from axbridge.router.v1.call_pb2 import RefusalReason
from axbridge.router.v1.router_service_pb2 import Genuineness

from services.router.callevents import CallEvents
from services.runtime.keyring import EvidenceKeys
from services.runtime.sealing import PurgeSealer, Sealed, associated, open_evidence
from services.runtime.status import reason_of
from tests.conftest import NewTopicName
from tests.router_world import (
    BindingStub,
    Switch,
    World,
    eventually,
    free_port,
    now_ms,
    process,
    read_topic,
)

A, B, STRANGER = "+8613812345678", "+8613912345678", "+8618612345678"
PARTITIONS = 4
pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def pod(kafka_bootstrap: str, new_topic: NewTopicName, tmp_path: Path) -> Iterator[SimpleNamespace]:
    """One router pod (writer, two workers), the records process, and a binding stub."""
    world = World(tmp_path)
    routes, keys, denials, calls, records, callers = (
        new_topic(name, partitions=PARTITIONS)
        for name in ("routes", "keys", "denials", "calls", "records", "callers")
    )
    directory = tmp_path / "directory.json"
    platforms = [
        {"id": name, "name": name.title(), "sector": "taxi", "complaints": "tel:12300",
         "endpoint": f"{name}.example:5070", "blocks": [block]}
        for name, block in (("own", world.block), ("other", "70088888888"))
    ]  # fmt: skip
    directory.write_text(json.dumps({"own": "own", "platforms": platforms}))
    port, health, http = free_port(), free_port(), free_port()
    environment = {
        "ROUTER_LISTEN": f"127.0.0.1:{port}", "ROUTER_HEALTH_LISTEN": f"127.0.0.1:{health}",
        "ROUTER_KAFKA_BOOTSTRAP": kafka_bootstrap, "ROUTER_DATA_DIR": str(tmp_path / "data"),
        "ROUTER_KEYRING_DIR": str(tmp_path / "keys"), "ROUTER_ROUTES_TOPIC": routes,
        "ROUTER_EVIDENCE_PUBLIC_KEY": str(tmp_path / "evidence" / "evidence-public.pem"),
        "ROUTER_KEYS_TOPIC": keys, "ROUTER_CALLS_TOPIC": calls, "ROUTER_RECORDS_TOPIC": records,
        "ROUTER_DENIALS_TOPIC": denials, "ROUTER_CALLERS_TOPIC": callers,
        "ROUTER_WORKERS": "2", "ROUTER_ID": "r1",
        "ROUTER_DIRECTORY_FILE": str(directory), "ROUTER_HTTP_LISTEN": f"127.0.0.1:{http}",
    }  # fmt: skip
    log = tmp_path / "router.log"
    switch = Switch(f"127.0.0.1:{port}")
    with (
        process("services.router", environment, log),
        process("services.router.records", environment, tmp_path / "records.log"),
    ):
        yield SimpleNamespace(
            world=world, switch=switch, log=log, http=http, health=f"http://127.0.0.1:{health}",
            binding=BindingStub(kafka_bootstrap, routes, keys, PARTITIONS, denials),
            calls=lambda: read_topic(kafka_bootstrap, calls),
            records=lambda: [
                events_pb2.CallRecorded.FromString(m.value() or b"")
                for m in read_topic(kafka_bootstrap, records)
            ],
        )  # fmt: skip
        switch.close()


def reason(pod: SimpleNamespace, caller: str, dialled: str) -> str:
    answer = pod.switch.ask(caller, dialled)
    if answer.HasField("connect"):
        return "CONNECT"
    return RefusalReason.Name(answer.refuse.reason).removeprefix("REFUSAL_REASON_")


def test_blacklisted_calls_are_refused_until_the_entry_ends(pod: SimpleNamespace) -> None:
    world, x = pod.world, pod.world.number()
    pod.binding.publish(world.route(x, "b1", A, B), world=world)
    eventually(lambda: reason(pod, A, x) == "CONNECT", what="first connect")
    pod.binding.deny(world, "e1", A, B)
    eventually(lambda: reason(pod, A, x) == "BLACKLISTED", what="the pair")
    assert reason(pod, B, x) == "CONNECT"
    pod.binding.deny(world, "e2", B, life_ms=8000)
    eventually(lambda: reason(pod, B, x) == "BLACKLISTED", what="the number")
    refuse = pod.switch.ask(B, x).refuse
    assert (refuse.q850_cause, refuse.announcement) == (21, "not-authorised")
    eventually(lambda: reason(pod, B, x) == "CONNECT", what="expiry by the router's clock")
    pod.binding.deny(world, "e1", A, B, life_ms=0)
    eventually(lambda: reason(pod, A, x) == "CONNECT", what="removal")


def reached(switch: Switch, x: str, who: str) -> bool:
    return all(switch.ask(A, x).connect.callee.e164 == who for _ in range(5))


def test_a_calls_back_who_called_last_also_through_another_worker(pod: SimpleNamespace) -> None:
    world, switch, x = pod.world, pod.switch, pod.world.number()
    pod.binding.publish(world.axe_route(x, "b1", A, "42", 600), world=world)
    collect = eventually(
        lambda: switch.ask(STRANGER, x).HasField("collect"), what="the question for an extension"
    )
    assert collect
    assert reason(pod, A, x) == "NO_LAST_CALLER"
    for caller in (STRANGER, B):
        assert switch.ask(caller, x, extension="42").connect.callee.e164 == A
        eventually(partial(reached, switch, x, caller), what="the call back")
    assert switch.ask(A, x).connect.display_number == x


def test_decisions_and_records(pod: SimpleNamespace) -> None:
    world, switch = pod.world, pod.switch
    x, one_way, brief, foreign_key = (world.number() for _ in range(4))
    pod.binding.publish(
        world.route(x, "b1", A, B),
        world.route(one_way, "b2", A, B, direction=2),
        world.route(brief, "b3", A, B, expire_ms=now_ms() + 4000),
        world=world,
    )
    lost = world.route(foreign_key, "b4", A, B)
    lost.callee_b.box = lost.callee_a.box  # a callee moved to another place does not open
    pod.binding.publish(lost)
    eventually(lambda: reason(pod, A, x) == "CONNECT", what="first connect")

    answer = switch.ask("13812345678", "0086" + x)
    connect = answer.connect
    assert (connect.callee.e164, connect.display_number) == (B, x)
    assert connect.mark == "【号码保护】"
    assert connect.max_duration.seconds == 30 * 60
    assert connect.recording == call_pb2.RECORDING_OFF
    assert connect.binding == f"tenants/{world.tenant}/bindings/b1"
    assert 0 <= answer.view_age.seconds < 60
    assert switch.ask(B, x).connect.callee.e164 == A

    explained = switch.explain(A, x)
    assert (explained.binding, explained.callee_side) == (
        connect.binding,
        events_pb2.CALLING_SIDE_B,
    )
    assert explained.answer.connect.callee.e164 == ""
    over = switch.explain(B, x, explained.expire_time).answer.refuse
    assert over.reason == call_pb2.REFUSAL_REASON_EXPIRED

    eventually(lambda: reason(pod, A, brief) == "EXPIRED", what="expiry by the router's clock")
    assert reason(pod, STRANGER, x) == "NOT_BOUND"
    assert reason(pod, "", x) == "CALLER_WITHHELD"
    assert reason(pod, "12", x) == "CALLER_INVALID"
    assert reason(pod, A, "13912345678") == "DIALLED_INVALID"
    other = f"700{(int(world.block[3:]) + 1) % 10**8:08d}0001"
    assert reason(pod, A, other) == "BLOCK_FOREIGN"
    assert reason(pod, B, one_way) == "DIRECTION"
    assert reason(pod, A, one_way) == "CONNECT"
    assert reason(pod, A, foreign_key) == "KEY_UNAVAILABLE"

    started = time.perf_counter()
    pod.binding.publish(world.route(x, "b1", A, B, version=2, released=True))
    eventually(lambda: reason(pod, A, x) == "RELEASED", what="release")
    print(f"released after {(time.perf_counter() - started) * 1000:.1f} ms")
    pod.binding.publish(world.route(x, "b1", A, B), world=world)  # a stale copy
    pod.binding.end(x, "b1", 2)
    eventually(lambda: reason(pod, A, x) == "NOT_BOUND", what="tombstone")
    pod.binding.publish(world.route(x, "b1", A, B), world=world)  # and a stale one behind it
    pod.binding.publish(world.route(world.number(), "b9", A, B))
    eventually(lambda: reason(pod, A, f"{world.block}0005") == "CONNECT", what="the marker route")
    assert reason(pod, A, x) == "NOT_BOUND"

    log = pod.log.read_text()
    for digits in ("13812345678", "13912345678", "18612345678"):
        assert digits not in log


def test_a_call_becomes_one_record(pod: SimpleNamespace, tmp_path: Path) -> None:
    world, switch = pod.world, pod.switch
    x = world.number()
    pod.binding.publish(world.route(x, "b1", A, B), world=world)
    eventually(lambda: reason(pod, A, x) == "CONNECT", what="first connect")
    assert switch.ask(A, x, "call-1").HasField("connect")
    assert switch.ask(STRANGER, x, "call-2").HasField("refuse")
    start = now_ms()
    reports = [
        (2, 1, 1, start + 100, {}),
        (2, 2, 2, start + 2_000, {}),
        (1, 1, 3, start + 62_000, {"q850_cause": 16, "release_side": 1}),
        (2, 2, 2, start + 2_000, {}),
    ]
    random.Random(42).shuffle(reports)
    for leg, sequence, kind, at, more in reports:
        switch.report("call-1", leg, sequence, kind, at, **more)

    def records(call_id: str) -> list[events_pb2.CallRecorded]:
        return [r for r in pod.records() if r.call_id == call_id]

    eventually(lambda: records("call-1") and records("call-2"), what="records")
    record = records("call-1")[-1]
    assert record.outcome == events_pb2.CALL_OUTCOME_ANSWERED
    assert (record.number, record.binding.binding, record.carrier) == (x, "b1", "cmcc")
    assert record.calling_side == events_pb2.CALLING_SIDE_A
    assert record.duration.seconds == 60
    assert (record.q850_cause, record.release_side) == (16, call_pb2.RELEASE_SIDE_CALLER)
    [refused] = records("call-2")
    assert refused.outcome == events_pb2.CALL_OUTCOME_REFUSED
    assert refused.refusal_reason == call_pb2.REFUSAL_REASON_NOT_BOUND

    purge = PurgeSealer(world.keyring)
    bound = associated("call-record", "cmcc", "call-2", 1)
    opened = purge.open(Sealed(refused.secrets.key_id, refused.secrets.box), bound)
    secrets = events_pb2.CallSecrets.FromString(opened)
    assert secrets.caller_tag == world.tagger.party(world.tenant, STRANGER)
    private = EvidenceKeys.load_private(tmp_path / "evidence")
    copy = Sealed(secrets.caller_evidence.key_id, secrets.caller_evidence.box)
    bound = associated("call-caller", "cmcc", "call-2")
    assert open_evidence(private, world.keyring, copy, bound) == STRANGER.encode()

    for message in pod.calls():
        shown = repr((message.key(), message.headers(), message.value()))
        for digits in ("13812345678", "13912345678", "18612345678"):
            assert digits not in shown
    assert CallEvents(purge)


def test_many_calls_at_once_are_decided_and_journalled_each(pod: SimpleNamespace) -> None:
    world, switch = pod.world, pod.switch
    x = world.number()
    pod.binding.publish(world.route(x, "b1", A, B), world=world)
    eventually(lambda: reason(pod, A, x) == "CONNECT", what="first connect")
    for ask in (switch.batch, switch.stream):
        name = ask.__name__
        asked = [
            switch.request(A, x, f"{name}-1"),
            switch.request(A, x, "not one"),
            switch.request(STRANGER, x, f"{name}-2"),
            switch.request(B, x, f"{name}-3"),
        ]
        first, bad, refused, last = ask(asked)
        assert first.response.connect.callee.e164 == B
        assert (bad.error.code, bad.error.message) == (3, "malformed")
        assert refused.response.refuse.reason == call_pb2.REFUSAL_REASON_NOT_BOUND
        assert last.response.connect.callee.e164 == A
    for size in (0, 1001):
        with pytest.raises(grpc.RpcError) as caught:
            switch.batch([switch.request(A, x)] * size)
        assert reason_of(caught.value) == "BATCH_SIZE_INVALID"

    def journalled() -> bool:
        keys = {message.key() for message in pod.calls()}
        return all(
            f"cmcc/{name}-{number}".encode() in keys
            for name in ("batch", "stream")
            for number in (1, 2, 3)
        )

    eventually(journalled, what="the decisions on Kafka")


def test_bad_input_and_health(pod: SimpleNamespace) -> None:
    eventually(lambda: reason(pod, A, "1") == "DIALLED_INVALID", what="a worker")
    for call_id, carrier in (("", "cmcc"), ("a b", "cmcc"), ("x" * 129, "cmcc"), ("1", "CMCC")):
        odd = Switch.__new__(Switch)
        odd.__dict__ = {**pod.switch.__dict__, "carrier": carrier}
        with pytest.raises(grpc.RpcError) as caught:
            odd.ask(A, "1", call_id or " ")
        assert reason_of(caught.value) == "CALL_INVALID"
    with pytest.raises(grpc.RpcError) as caught:
        pod.switch.report("c1", 9, 1, 1, now_ms())
    assert reason_of(caught.value) == "INVALID_FIELD"
    for text in ("\x00", "+" * 4000, "七" * 50, "'; drop", "0" * 15, "+86" * 9):
        assert reason(pod, text, text) == "DIALLED_INVALID"
    eventually(lambda: _get(pod.health + "/readyz") == "ok\n", what="readiness")
    counted = 'router_decisions_total{reason="DIALLED_INVALID"}'
    eventually(lambda: counted in _get(pod.health + "/metrics"), what="a count")
    metrics = _get(pod.health + "/metrics")
    assert "router_view_age_seconds" in metrics


def test_the_http_edge_is_the_same_router(pod: SimpleNamespace) -> None:
    world = pod.world
    x = world.number()
    pod.binding.publish(world.route(x, "b1", A, B), world=world)
    eventually(lambda: reason(pod, A, x) == "CONNECT", what="first connect")

    def post(path: str, **fields: object) -> Any:
        given = {"carrier": "cmcc", "callId": "h-1", **fields}
        body = json.dumps({k: v for k, v in given.items() if v is not None}).encode()
        url = f"http://127.0.0.1:{pod.http}/v1/{path}"
        with urllib.request.urlopen(urllib.request.Request(url, body), timeout=5) as answer:
            return json.loads(answer.read())

    # It may be the other worker's: that opens a view of its own.
    eventually(lambda: post("route", caller=A, dialled=x)["routes"], what="the worker that answers")

    def refusal(**fields: object) -> str:
        reason: str = post("route", caller=A, **fields).get("refuse", {}).get("reason", "")
        return reason.removeprefix("REFUSAL_REASON_")

    def routed(part: str, dialled: str) -> Any:  # by either worker, each with its own start
        return eventually(lambda: post("route", caller=A, dialled=dialled).get(part), what=part)

    assert routed("routes", x)[0]["uri"] == f"sip:{B}@axbridge.invalid"
    for leg, sequence, kind in ((2, 1, 1), (2, 2, 2), (1, 1, 3)):
        when = datetime.now(UTC).isoformat()
        post("call-events", leg=leg, sequence=sequence, kind=kind, eventTime=when)
    foreign = "700888888880001"
    assert routed("transfer", foreign) == {
        "platform": "other", "endpoint": "other.example:5070", "transferredBy": ["own"],
    }  # fmt: skip
    path = ["third", "own"]
    eventually(lambda: refusal(dialled=foreign, transferredBy=path) == "TRANSFER_LOOP", what="loop")
    assert refusal(dialled="110") == "SHORT_NUMBER"
    assert post("check-number", carrier=None, callId=None, number=foreign)["platform"] == "Other"
    text = {"callId": None, "messageId": "m-1", "sender": A, "dialled": x, "text": "楼下等你"}
    forward = eventually(lambda: post("message", **text).get("forward"), what="a message")
    assert (forward["recipient"]["e164"], forward["text"]) == (B, "【号码保护】楼下等你")
    with pytest.raises(urllib.error.HTTPError) as caught:
        post("route", callId="", dialled=x)
    assert caught.value.code == 400
    assert "CALL_INVALID" in caught.value.read().decode()

    def recorded() -> bool:
        return any(
            (r.call_id, r.outcome) == ("h-1", events_pb2.CALL_OUTCOME_ANSWERED)
            for r in pod.records()
        )

    eventually(recorded, what="a record")
    sent = {m.key(): m.value() or b"" for m in pod.calls()}[b"cmcc/m-1"]
    assert events_pb2.CallRouted.FromString(sent).message.parts == 1
    assert "楼下".encode() not in sent
    assert all(r.call_id != "m-1" for r in pod.records())


def test_anybody_may_check_a_number_a_few_times_a_second(pod: SimpleNamespace) -> None:
    def check(number: str) -> tuple[str, str]:
        answer = pod.switch.check(number)
        return Genuineness.Name(answer.genuineness).removeprefix("GENUINENESS_"), answer.platform

    assert eventually(lambda: check(pod.world.number())) == ("GENUINE", "Own")
    assert check("0086700888888880001") == ("GENUINE", "Other")
    assert check("700999999990001") == ("NOT_ASSIGNED", "")
    with pytest.raises(grpc.RpcError) as caught:
        check("13812345678")
    assert reason_of(caught.value) == "NUMBER_INVALID"

    def refused() -> bool:
        try:
            check("700888888880001")
        except grpc.RpcError as error:
            return reason_of(error) == "OVERLOADED"
        return False

    eventually(refused, what="the end of an asker's bucket")


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        text: str = answer.read().decode()
        return text
