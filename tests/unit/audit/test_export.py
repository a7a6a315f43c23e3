"""An export is whole, ends with its checkpoint, and shows nothing that is sealed."""

import json
from pathlib import Path
from typing import Any

import pytest
from axbridge.audit.v1 import audit_service_pb2 as service
from axbridge.audit.v1.entry_pb2 import Event

from services.audit import export
from services.audit.checkpoint import Checkpoint, NoteSigner
from services.audit.entry import event_of, types_of
from services.runtime.keyring import MemoryKeyRing
from services.runtime.sealing import PurgeSealer
from services.runtime.topics import BINDING_BINDINGS
from tests.audit_events import created, record

NOTE = NoteSigner.generate("log.example").sign(Checkpoint("log.example", 250, bytes(32)).text())


class Service:
    """The two rpcs over 300 events, of which the checkpoint covers 250; a page has 100."""

    def __init__(self) -> None:
        self.asked: list[service.QueryEventsRequest] = []
        sealer, types = PurgeSealer(MemoryKeyRing()), types_of(BINDING_BINDINGS)
        self.events = []
        for leaf in range(300):
            message = created(f"b{leaf}", sealer, order="order-77")
            event = Event(leaf_index=leaf)
            event.entry.ParseFromString(event_of(record(message, f"e{leaf}"), types).entry)
            self.events.append(event)

    def GetCheckpoint(self, request: Any, timeout: float) -> service.GetCheckpointResponse:
        return service.GetCheckpointResponse(checkpoint=NOTE.decode())

    def QueryEvents(
        self, request: service.QueryEventsRequest, timeout: float
    ) -> service.QueryEventsResponse:
        self.asked.append(service.QueryEventsRequest.FromString(request.SerializeToString()))
        first = int(request.page_token or 0)
        token = str(first + 100) if first + 100 < 300 else ""
        page = self.events[first : first + 100]
        return service.QueryEventsResponse(events=page, next_page_token=token)


def test_ndjson(tmp_path: Path) -> None:
    stub, path = Service(), tmp_path / "out.ndjson"
    assert export.export(stub, service.QueryEventsRequest(tenant="taxi"), path) == 250
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert [int(line["leaf_index"]) for line in lines] == list(range(250))
    assert lines[7]["event"]["fact"]["binding"] == "b7"
    assert lines[7]["entry"]["event_id"] == "e7"
    assert "order-77" not in path.read_text("utf-8")
    assert (tmp_path / "out.ndjson.checkpoint").read_bytes() == NOTE
    assert [(asked.tenant, asked.page_token) for asked in stub.asked] == [
        ("taxi", ""), ("taxi", "100"), ("taxi", "200"),
    ]  # fmt: skip
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        path.name,
        f"{path.name}.checkpoint",
    ]


def test_an_export_that_fails_leaves_the_one_before(tmp_path: Path) -> None:
    class Broken(Service):
        def QueryEvents(self, request: Any, timeout: float) -> service.QueryEventsResponse:
            if request.page_token:
                raise ConnectionError
            return super().QueryEvents(request, timeout)

    path = tmp_path / "out.ndjson"
    path.write_text("before")
    with pytest.raises(ConnectionError):
        export.export(Broken(), service.QueryEventsRequest(), path)
    assert path.read_text() == "before"


def test_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (
        ["h:1", "out.csv"],
        ["h:1", "out.ndjson", "--query", '{"party": "138'],
        ["h:1"],
    ):
        with pytest.raises(SystemExit) as ended:
            export.main(arguments)
        assert ended.value.code == 2
    assert "138" not in capsys.readouterr().err
    assert export.main(["127.0.0.1:1", str(tmp_path / "out.ndjson")]) == 1
    assert "not exported: UNAVAILABLE" in capsys.readouterr().err
