"""audit's service over a real log: queries, pages, proofs, errors; the index made anew."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from axbridge.audit.v1 import audit_service_pb2 as service
from axbridge.audit.v1.audit_service_pb2_grpc import AuditServiceStub
from axbridge.audit.v1.entry_pb2 import Event, InclusionProof
from axbridge.binding.v1 import events_pb2 as binding

from deploy.local.places import free_port
from services.audit import merkle
from services.audit.checkpoint import Checkpoint, NoteVerifier, open_checkpoint
from services.audit.proof import check_consistency, check_inclusion, root_from_inclusion
from services.audit.tlogproof import OfflineProof
from services.runtime.keyring import FileKeyRing
from services.runtime.sealing import PurgeSealer, Tagger
from services.runtime.status import reason_of
from tests.audit_events import TIME_MS, Publisher, created, leased, number, routed
from tests.audit_source import Source, python, until


class Running:
    """A sequencer and a service, with a client of the service."""

    def __init__(self, source: Source, folder: Path) -> None:
        self.source = source
        self.folder = folder
        self.publisher = Publisher(source.bootstrap)
        self.sealer = PurgeSealer(FileKeyRing(folder / "keyring"))
        self.address = f"127.0.0.1:{free_port()}"
        # Tries again soon: a test asks before the service listens.
        options = [
            ("grpc.max_reconnect_backoff_ms", 200),
            ("grpc.initial_reconnect_backoff_ms", 100),
        ]
        self.channel = grpc.insecure_channel(self.address, options)
        self.stub: Any = AuditServiceStub(self.channel)

    @contextmanager
    def service(self) -> Iterator[subprocess.Popen[bytes]]:
        environment = {
            "AUDIT_LISTEN": self.address,
            "AUDIT_LOG_DIR": str(self.source.root),
            "AUDIT_INDEX_PATH": str(self.folder / "index.sqlite"),
            "AUDIT_KEYRING_DIR": str(self.folder / "keyring"),
        }
        with python(["services.audit"], environment) as process:
            grpc.channel_ready_future(self.channel).result(20)
            yield process

    def publish(self, event_id: str, topic: str, message: Any, time_ms: int = TIME_MS) -> None:
        self.publisher.publish(topic, event_id, message, time_ms=time_ms)

    def await_event(self, event_id: str) -> InclusionProof:
        """Publishing is done; waits until the event can be found."""
        self.publisher.flush()
        request = service.GetInclusionProofRequest(event_id=event_id)
        until(lambda: self.refusal("GetInclusionProof", request) == "")
        proof: InclusionProof = self.stub.GetInclusionProof(request)
        return proof

    def refusal(self, rpc: str, request: Any) -> str:
        """The reason of an error, empty for an answer."""
        try:
            getattr(self.stub, rpc)(request)
        except grpc.RpcError as error:
            return reason_of(error) or "no reason of ours"
        return ""

    def query(self, **fields: Any) -> list[str]:
        """Ids of all events, through pages of the given size."""
        return [event.entry.event_id for event in self.events(**fields)]

    def events(self, **fields: Any) -> list[Event]:
        found: list[Event] = []
        token = ""
        while True:
            request = service.QueryEventsRequest(page_token=token, **fields)
            answer = self.stub.QueryEvents(request)
            found += answer.events
            token = answer.next_page_token
            if not token:
                return found

    def checkpoint(self) -> Checkpoint:
        answer = self.stub.GetCheckpoint(service.GetCheckpointRequest())
        return self.opened(answer.checkpoint)

    def opened(self, note: str) -> Checkpoint:
        verifier = NoteVerifier.parse(self.source.vkey)
        return open_checkpoint(note.encode(), [verifier], verifier.name)


@pytest.fixture(scope="module")
def running(kafka_bootstrap: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("audit")
    with Source.made(kafka_bootstrap, folder / "log", 2) as source:
        running = Running(source, folder)
        with source.sequencer(), running.service() as process:
            yield running
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
        running.channel.close()


def test_finds_events_by_every_filter(running: Running) -> None:
    at, sealer, bindings = 1_800_000_000_000, running.sealer, running.source.bindings
    calls, numbers = running.source.calls, running.source.numbers
    one = created("f1", sealer, tenant="finder", order="o-1", serial=1)
    gone = created("f1", sealer, tenant="finder", order="o-1", serial=1, version=2,
                   kind=binding.BindingReleased)  # fmt: skip
    running.publish("lease", numbers, leased(1, 2, tenant="finder"), at)
    running.await_event("lease")
    running.publish("one", bindings, one, at + 10)
    running.publish(
        "two", bindings, created("f2", sealer, tenant="finder", order="o-2", serial=2), at + 20
    )
    running.await_event("two")
    running.publish("call", calls, routed("call-1", "f1", tenant="finder", serial=1), at + 30)
    running.await_event("call")
    running.publish("gone", bindings, gone, at + 40)
    running.await_event("gone")

    assert running.query(tenant="finder") == ["lease", "one", "two", "call", "gone"]
    assert running.query(binding="f1") == ["one", "call", "gone"]
    assert running.query(tenant="finder", order_id="o-1") == ["one", "gone"]
    assert running.query(tenant="other", order_id="o-1") == []
    assert running.query(number=number(2), tenant="finder") == ["lease", "two"]
    assert running.query(type="CallRouted", tenant="finder") == ["call"]
    assert running.query(call="c/call-1") == ["call"]
    assert running.query(type="axbridge.binding.v1.BindingReleased", binding="f1") == ["gone"]
    span = service.QueryEventsRequest(tenant="finder")
    span.start_time.FromMilliseconds(at + 10)
    span.end_time.FromMilliseconds(at + 30)
    assert running.query(start_time=span.start_time, end_time=span.end_time) == ["one", "two"]
    assert running.query(number=number(1), binding="f1", page_size=1) == ["one", "call", "gone"]
    (found,) = running.events(type="BindingReleased", tenant="finder")
    assert found.entry.value == gone.SerializeToString()
    assert found.entry.key == b"key"
    # The tenant that was only asked for has no tag key now.
    assert not list((running.folder / "keyring").glob("*other*"))


def test_who_was_behind_a_number(running: Running) -> None:
    at, bindings, tenant = 1_800_000_000_000, running.source.bindings, "tracer"
    tagger = Tagger(FileKeyRing(running.folder / "keyring"))
    a, b, c = (f"1380013800{n}" for n in range(3))
    tags = [tagger.party(tenant, f"+86{real}") for real in (a, b, c)]

    def publish(
        name: str, time_ms: int, until_ms: int, pair: tuple[bytes, bytes], **more: Any
    ) -> None:
        message = created(name, running.sealer, tenant=tenant, serial=77, tags=pair,
                          until_ms=until_ms, **more)  # fmt: skip
        event_id = f"trace-{name}-{time_ms}"
        running.publish(event_id, bindings, message, time_ms)
        running.await_event(event_id)

    def traced(time_ms: int, caller: str = "") -> Any:
        request = service.TraceRequest(number=number(77), prove=True)
        request.time.FromMilliseconds(time_ms)
        if caller:
            request.caller.e164 = caller
        return running.stub.Trace(request)

    publish("ab", at, at + 1000, (tags[0], tags[1]))
    publish("bc", at, at + 1000, (tags[1], tags[2]))
    publish("ab", at + 500, at + 500, (tags[0], tags[1]), version=2, kind=binding.BindingReleased)
    one = traced(at + 100, a)
    assert [found.binding for found in one.bindings] == [f"tenants/{tenant}/bindings/ab"]
    assert one.bindings[0].caller_role == service.CALLER_ROLE_PARTY
    event = one.bindings[0].event
    assert event.entry.event_id == f"trace-ab-{at}"
    signed = running.opened(one.checkpoint)
    leaf = merkle.leaf_hash(event.entry.SerializeToString(deterministic=True))
    check_inclusion(leaf, event.leaf_index, signed.size, list(event.proof.hashes), signed.root)
    assert len(traced(at + 100, b).bindings) == 2
    assert [found.binding.rpartition("/")[2] for found in traced(at + 500).bindings] == ["bc"]
    assert not traced(at + 500, a).bindings
    request = service.TraceRequest(number=number(77))
    assert running.refusal("Trace", request) == "INVALID_FIELD"
    party = service.QueryEventsRequest(tenant=tenant).party
    party.e164 = a
    found = running.query(tenant=tenant, party=party)
    assert found == [f"trace-ab-{at}", f"trace-ab-{at + 500}"]
    party.e164 = "110"
    wrong = service.QueryEventsRequest(tenant=tenant, party=party)
    assert running.refusal("QueryEvents", wrong) == "PARTY_NUMBER_INVALID"


def test_pages_are_stable_while_events_arrive(running: Running) -> None:
    def publish(low: int, high: int) -> None:
        for serial in range(low, high):
            message = created(f"p{serial}", tenant="pager")
            running.publish(f"page-{serial}", running.source.bindings, message)
        running.await_event(f"page-{high - 1}")

    publish(0, 250)
    seen: list[str] = []
    token, pages = "", 0
    while token or not pages:
        request = service.QueryEventsRequest(tenant="pager", page_size=40, page_token=token)
        answer = running.stub.QueryEvents(request)
        seen += [event.entry.event_id for event in answer.events]
        token, pages = answer.next_page_token, pages + 1
        if pages == 3:
            publish(250, 300)
    assert seen == [f"page-{serial}" for serial in range(300)]
    assert pages == 8


def test_a_page_of_large_events_fits_a_message(running: Running) -> None:
    for serial in range(70):
        running.publish(
            f"large-{serial}", running.source.bindings, created("b" * 60_000, tenant="large")
        )
    running.await_event("large-69")
    request = service.QueryEventsRequest(tenant="large", page_size=1000)
    answer = running.stub.QueryEvents(request)
    assert 0 < len(answer.events) < 70
    assert running.query(tenant="large", page_size=1000) == [f"large-{n}" for n in range(70)]


def test_proofs_check_out(running: Running) -> None:
    for serial in range(300):
        message = created(f"q{serial}", tenant="prover")
        running.publish(f"proof-{serial}", running.source.bindings, message)
    running.await_event("proof-299")
    (event,) = running.events(binding="q7")
    newest = running.checkpoint()
    proof = running.await_event("proof-7")
    leaf = merkle.leaf_hash(event.entry.SerializeToString(deterministic=True))
    assert (proof.leaf_index, proof.leaf_hash) == (event.leaf_index, leaf)
    assert (proof.tree_size, proof.checkpoint != "") == (newest.size, True)
    check_inclusion(leaf, proof.leaf_index, newest.size, list(proof.hashes), newest.root)

    for size in (event.leaf_index + 1, newest.size - 1):  # trees that were never published
        older = running.stub.GetInclusionProof(
            service.GetInclusionProofRequest(leaf_index=event.leaf_index, tree_size=size)
        )
        growth = running.stub.GetConsistencyProof(
            service.GetConsistencyProofRequest(first_size=size)
        )
        assert (older.checkpoint, growth.second_size) == ("", newest.size)
        root = root_from_inclusion(leaf, older.leaf_index, older.tree_size, list(older.hashes))
        check_consistency(size, root, newest.size, newest.root, list(growth.hashes))


def test_a_receipt_can_be_had_as_soon_as_the_event_is_acknowledged(running: Running) -> None:
    message = created("receipt", tenant="payer")
    running.publish("paid", running.source.bindings, message)
    running.publisher.flush()
    receipt = running.stub.GetReceipt(service.GetReceiptRequest(event_id="paid"))
    assert receipt.event.entry.value == message.SerializeToString()
    verifier = NoteVerifier.parse(running.source.vkey)
    proof = OfflineProof.parse(receipt.tlog_proof)
    signed = proof.check(receipt.entry, [verifier], verifier.name)
    assert (signed.size, proof.index) == (receipt.proof.tree_size, receipt.event.leaf_index)


@pytest.mark.parametrize(
    ("rpc", "fields", "reason"),
    [
        ("QueryEvents", {"page_size": 1001}, "INVALID_FIELD"),
        ("QueryEvents", {"number": "13800138000"}, "INVALID_FIELD"),
        ("QueryEvents", {"order_id": "o"}, "INVALID_FIELD"),
        ("QueryEvents", {"type": "Unheard"}, "INVALID_FIELD"),
        ("QueryEvents", {"page_token": "x"}, "INVALID_PAGE_TOKEN"),
        ("GetInclusionProof", {}, "INVALID_FIELD"),
        ("GetInclusionProof", {"leaf_index": -1}, "INVALID_FIELD"),
        ("GetInclusionProof", {"event_id": "none"}, "EVENT_NOT_FOUND"),
        ("GetReceipt", {}, "INVALID_FIELD"),
        ("GetReceipt", {"event_id": "none"}, "EVENT_NOT_FOUND"),
        ("GetReceipt", {"event_id": "some", "witnessed": True}, "NOT_WITNESSED"),
        ("GetInclusionProof", {"leaf_index": 1 << 40}, "TREE_SIZE_INVALID"),
        ("GetInclusionProof", {"leaf_index": 0, "tree_size": 1 << 40}, "TREE_SIZE_INVALID"),
        ("GetConsistencyProof", {"first_size": -1}, "INVALID_FIELD"),
        ("GetConsistencyProof", {"first_size": 2, "second_size": 1}, "TREE_SIZE_INVALID"),
    ],
)
def test_errors_have_reasons(
    running: Running, rpc: str, fields: dict[str, Any], reason: str
) -> None:
    running.publish("some", running.source.bindings, created("b"))
    running.await_event("some")
    assert running.refusal(rpc, getattr(service, f"{rpc}Request")(**fields)) == reason


def test_random_bytes_crash_nothing(running: Running) -> None:
    rpcs = service.DESCRIPTOR.services_by_name["AuditService"].methods_by_name
    for rpc in rpcs:
        path = f"/axbridge.audit.v1.AuditService/{rpc}"
        call = running.channel.unary_unary(path, bytes, bytes)
        codes = {code_of(call, os.urandom(40)) for _ in range(50)}
        assert grpc.StatusCode.INTERNAL not in codes
    running.checkpoint()


def code_of(call: Any, request: bytes) -> grpc.StatusCode:
    answer = call.future(request, timeout=5)
    code: grpc.StatusCode = answer.code()
    return code


def test_the_index_is_made_anew_from_the_log(kafka_bootstrap: str, tmp_path: Path) -> None:
    with Source.made(kafka_bootstrap, tmp_path / "log", 1) as source:
        running = Running(source, tmp_path)
        with running.service() as process:  # before there is a log
            request = service.GetCheckpointRequest()
            assert running.refusal("GetCheckpoint", request) == "LOG_EMPTY"
            with source.sequencer():
                sealed = created("b1", running.sealer, order="o")
                running.publish("one", source.bindings, sealed)
                running.await_event("one")
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
        for file in tmp_path.glob("index.sqlite*"):
            file.unlink()
        with running.service():
            running.await_event("one")
            assert running.query(tenant="taxi", order_id="o") == ["one"]
        running.channel.close()
