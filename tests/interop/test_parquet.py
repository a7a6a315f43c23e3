"""An export is read by Apache's own reader of Parquet."""

from pathlib import Path

from axbridge.audit.v1 import audit_service_pb2 as service

from services.audit import export
from tests.interop.toolchain import pyarrow
from tests.unit.audit.test_export import Service


def test_parquet(tmp_path: Path) -> None:
    pyarrow()
    from pyarrow import parquet

    stub, path = Service(), tmp_path / "out.parquet"
    assert export.export(stub, service.QueryEventsRequest(), path) == 250
    rows = parquet.read_table(path).to_pylist()
    assert [row["leaf_index"] for row in rows] == list(range(250))
    for row, event in zip(rows, stub.events, strict=False):
        assert row["value"] == event.entry.value
        assert row["time"].timestamp() * 1000 == event.entry.time.ToMilliseconds()
        assert f'"binding": "b{row["leaf_index"]}"' in row["event"]
    assert parquet.read_schema(path).field("time").type.tz == "UTC"
