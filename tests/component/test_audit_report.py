"""The daily report, made from what a real service answers, checked and delivered by command."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from axbridge.audit.v1.audit_service_pb2_grpc import add_AuditServiceServicer_to_server
from axbridge.binding.v1 import events_pb2 as binding
from axbridge.router.v1 import events_pb2 as router

from services.audit import report
from services.audit.checkpoint import NoteSigner
from services.audit.entry import event_id_of, event_of, types_of
from services.audit.extract import Extractor
from services.audit.handlers import Audit
from services.audit.index import SqliteIndex
from services.audit.indexer import Indexer
from services.audit.logfolder import LogFolder
from services.audit.served import ServedFolder
from services.audit.servicer import AuditServicer
from services.audit.storage import Faults
from services.runtime.keyring import MemoryKeyRing
from services.runtime.metrics import Metrics, Name
from services.runtime.sealing import PurgeSealer, Tagger
from services.runtime.topics import EVENT_TOPICS
from tests.audit_events import created, number, record

NOON = int(datetime(2026, 11, 25, 4, tzinfo=UTC).timestamp() * 1000)  # in Shanghai
DAY_MS = 24 * 3600 * 1000
TYPES = {name: kind for topic in EVENT_TOPICS for name, kind in types_of(topic).items()}


class World:
    """A log with its service, without Kafka."""

    def __init__(self, root: Path) -> None:
        self.ring = MemoryKeyRing()
        self.sealer = PurgeSealer(self.ring)
        self.folder = LogFolder.open(root / "audit", "axbridge.example/log", event_id_of)
        self.log, self.index = ServedFolder(root / "audit/log"), SqliteIndex(root / "index")
        extract = Extractor(self.sealer, Tagger(self.ring))
        metrics = Metrics("audit")
        lag, faults = metrics.gauge(Name.INDEX_LAG), Faults(metrics)
        self.indexer = Indexer(self.log, self.index, extract, lag, faults)
        audit: Any = Audit(self.log, self.index, self.indexer, Tagger(self.ring))
        self.server = grpc.server(ThreadPoolExecutor(2))
        add_AuditServiceServicer_to_server(AuditServicer(audit, audit), self.server)
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()

    def add(self, event_id: str, message: Any, time_ms: int) -> None:
        self.folder.append([event_of(record(message, event_id, time_ms=time_ms), TYPES)], b"")
        self.indexer.advance()

    def close(self) -> None:
        self.server.stop(None).wait()
        self.index.close()
        self.folder.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


def test_a_day_is_reported(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert number(1)[4:11] == "0000001"
    consent = binding.ConsentGranted(fact=binding.ConsentFact(tenant="taxi", consent="k"))
    call = router.CallRecorded(carrier="c", call_id="1", number=number(1))
    elsewhere = router.CallRecorded(carrier="c", call_id="2", number="700199999990001")
    world.add("early", created("b0"), NOON - DAY_MS)
    world.add("one", created("b1", world.sealer, order="order-77"), NOON)
    world.add("call", call, NOON + 1)
    world.add("other platform", elsewhere, NOON + 2)
    world.add("consent", consent, NOON + 3)
    world.add("gone", created("b1", kind=binding.BindingReleased, version=2), NOON + 4)
    world.add("late", created("b2"), NOON + DAY_MS)

    def make(out: str, *more: str) -> int:
        return report.main([
            "make", "2026-11-25", "--audit", world.address, "--region", "gd", "--platform",
            "0000001", "--key", str(tmp_path / "key"), "--out", str(tmp_path / out), *more,
        ])  # fmt: skip

    assert make("one") == report.DONE
    bundle = tmp_path / "one/gd-0000001-20261125"
    assert capsys.readouterr().out.strip() == str(bundle)

    def ids(part: str) -> list[str]:
        lines = (bundle / f"{part}.ndjson").read_text("utf-8").splitlines()
        return [json.loads(line)["event_id"] for line in lines]

    assert [ids(part) for part in ("bindings", "calls", "consents")] == [
        ["one", "gone"], ["call"], ["consent"],
    ]  # fmt: skip
    text = (bundle / "bindings.ndjson").read_text("utf-8")
    assert "secrets" not in text
    assert json.loads(text.splitlines()[0])["event"]["fact"]["binding"] == "b1"

    world.add("of that day, but later", created("b3"), NOON + 5)
    assert make("two", "--size", "7") == report.DONE  # the same octets once more
    files = sorted(path.name for path in bundle.iterdir())
    again = tmp_path / "two" / bundle.name
    assert files == sorted(path.name for path in again.iterdir())
    assert all((bundle / name).read_bytes() == (again / name).read_bytes() for name in files)
    assert make("one") == report.DONE
    assert ids("bindings") == ["one", "gone"]

    capsys.readouterr()
    vkey = NoteSigner.parse((tmp_path / "key").read_text().strip()).verifier.vkey
    there = tmp_path / "there"
    assert report.main(["deliver", str(bundle), "--to", str(there)]) == report.DONE
    assert report.main(["check", str(there / bundle.name), "--vkey", vkey]) == report.DONE
    assert "YES: 2 in bindings.ndjson, 1 in calls.ndjson" in capsys.readouterr().out
    (there / bundle.name / "calls.ndjson").write_text("{}\n")
    assert report.main(["check", str(there / bundle.name), "--vkey", vkey]) == report.WRONG
    assert "NO: calls.ndjson" in capsys.readouterr().err
    world.server.stop(None).wait()
    assert make("three") == report.NOT_NOW
