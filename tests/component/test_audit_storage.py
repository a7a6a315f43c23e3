"""A disk that is full, read-only or damaged: health and metrics say so, nothing is lost, and it
goes on by itself once the disk does."""

import errno
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http.client import HTTPConnection
from pathlib import Path

import grpc
import pytest
from axbridge.audit.v1 import audit_service_pb2 as service
from axbridge.audit.v1.audit_service_pb2_grpc import AuditServiceStub

from deploy.local.places import free_port
from services.audit.compare import compare_with_topics
from services.audit.sequencer import sequence
from services.audit.settings import SequencerSettings
from services.audit.tilestore import FolderStore
from services.audit.verify import verify_folder
from services.runtime.status import reason_of
from tests.audit_events import Publisher, created
from tests.audit_source import Source, python
from tests.audit_source import until as until_soon
from tests.audit_storm import Keeper

pytestmark = pytest.mark.timeout(400)
# A fault is retried every 2 s, and Kafka's client backs off meanwhile.
until = partial(until_soon, seconds=120)
# Tries again soon: a test asks before the service listens.
_SOON = [("grpc.max_reconnect_backoff_ms", 200), ("grpc.initial_reconnect_backoff_ms", 100)]


@pytest.fixture
def source(kafka_bootstrap: str, tmp_path: Path) -> Iterator[Source]:
    with Source.made(kafka_bootstrap, tmp_path / "audit", 2) as made:
        yield made


def get(port: int, path: str) -> tuple[int, str]:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except ConnectionRefusedError:
        return 0, ""
    finally:
        connection.close()


def state(port: int) -> str:
    """`ready`, or the fault that metrics show; empty if neither."""
    if get(port, "/readyz")[0] == 200:
        return "ready"
    for line in get(port, "/metrics")[1].splitlines():
        if line.startswith("audit_storage_fault{") and line.endswith(" 1.0"):
            return line.split('"')[1]
    return ""


@contextmanager
def sequencing(source: Source) -> Iterator[int]:
    """A sequencer in a thread of this process, so that its disk can be made to fail; its port."""
    port, stop = free_port(), threading.Event()
    settings = SequencerSettings(
        kafka_bootstrap=source.bootstrap, log_dir=source.root, health_listen=f"127.0.0.1:{port}"
    )
    failed: list[Exception] = []

    def run() -> None:
        try:
            sequence(settings, stop, source.topics)
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield port
    finally:
        stop.set()
        thread.join(30)
    assert failed == []


@pytest.mark.parametrize(
    ("operation", "number", "kind"),
    [
        ("replace_state", errno.ENOSPC, "full"),
        ("write", errno.EROFS, "readonly"),
        ("replace_checkpoint", errno.EIO, "failing"),
    ],
)
def test_a_disk_that_fails_and_works_again(
    source: Source, monkeypatch: pytest.MonkeyPatch, number: int, kind: str, operation: str
) -> None:
    publisher, keeper = Publisher(source.bootstrap), Keeper(source.served)
    broken = threading.Event()
    works: Callable[..., None] = getattr(FolderStore, operation)
    probes: Callable[..., None] = FolderStore.write_private

    def fails(store: FolderStore, *arguments: Mapping[str, bytes]) -> None:
        if broken.is_set():
            raise OSError(number, "as the kernel says it")
        works(store, *arguments)

    def probe(store: FolderStore, name: str, content: bytes) -> None:
        if broken.is_set():
            raise OSError(number, "as the kernel says it")
        probes(store, name, content)

    monkeypatch.setattr(FolderStore, operation, fails)
    monkeypatch.setattr(FolderStore, "write_private", probe)
    with sequencing(source) as port:
        publisher.publish(source.bindings, "before", created("b"))
        publisher.flush()
        until(lambda: keeper.look() and keeper.check(source.vkey) == 1)
        broken.set()
        publisher.publish(source.bindings, "meanwhile", created("b"))
        publisher.flush()
        until(lambda: state(port) == kind)
        assert get(port, "/healthz")[0] == 200  # alive: a restart would mend nothing
        assert keeper.look()
        assert keeper.check(source.vkey) == 1
        broken.clear()
        until(lambda: state(port) == "ready")
        until(lambda: keeper.look() and keeper.check(source.vkey) == 2)
    assert verify_folder(source.served, source.vkey).ok
    assert compare_with_topics(source.served, source.vkey, source.bootstrap, source.topics) == []


def test_a_truncated_tile_that_is_restored(source: Source) -> None:
    publisher, keeper = Publisher(source.bootstrap), Keeper(source.served)
    with sequencing(source):
        publisher.publish(source.bindings, "one", created("b"))
        publisher.flush()
        until(lambda: keeper.look() and keeper.check(source.vkey) == 1)
    tile = source.served / "tile/0/000.p/1"
    content = tile.read_bytes()
    tile.write_bytes(content[:-1])
    publisher.publish(source.bindings, "two", created("b"))
    publisher.flush()
    with sequencing(source) as port:
        until(lambda: state(port) == "damaged")
        assert keeper.look() == len(keeper.notes)  # nothing is signed on top of it
        tile.write_bytes(content)
        until(lambda: state(port) == "ready")
        until(lambda: keeper.look() and keeper.check(source.vkey) == 2)
    assert verify_folder(source.served, source.vkey).ok


def test_a_corrupt_index_is_told_and_made_anew_once_it_is_deleted(
    source: Source, tmp_path: Path
) -> None:
    publisher = Publisher(source.bootstrap)
    address, health = f"127.0.0.1:{free_port()}", free_port()
    index = tmp_path / "index.sqlite"
    environment = {
        "AUDIT_LISTEN": address, "AUDIT_HEALTH_LISTEN": f"127.0.0.1:{health}",
        "AUDIT_LOG_DIR": str(source.root), "AUDIT_INDEX_PATH": str(index),
        "AUDIT_KEYRING_DIR": str(tmp_path / "keyring"),
    }  # fmt: skip

    def found(stub: AuditServiceStub, event_id: str) -> str:
        """Empty, or why the event is not found."""
        try:
            stub.GetInclusionProof(service.GetInclusionProofRequest(event_id=event_id))
        except grpc.RpcError as error:
            return reason_of(error) or error.code().name
        return ""

    def publish(event_id: str) -> None:
        publisher.publish(source.bindings, event_id, created("b"))
        publisher.flush()

    with source.sequencer(), grpc.insecure_channel(address, _SOON) as channel:
        stub = AuditServiceStub(channel)
        with python(["services.audit"], environment) as process:
            publish("one")
            until(lambda: found(stub, "one") == "")
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        content = index.read_bytes()
        index.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
        publish("two")
        with python(["services.audit"], environment) as process:
            until(lambda: state(health) == "index")
            until(lambda: found(stub, "two") == "INDEX_UNAVAILABLE")
            proof = service.GetInclusionProofRequest(leaf_index=0)
            assert stub.GetInclusionProof(proof).tree_size > 0  # needs no index
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        for path in index.parent.glob("index.sqlite*"):
            path.unlink()
        with python(["services.audit"], environment):
            until(lambda: state(health) == "ready")
            until(lambda: found(stub, "one") == found(stub, "two") == "")
