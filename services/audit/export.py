"""Writes the answer of a query to a file: `python -m services.audit.export HOST:PORT FILE`.

    --query '{"tenant": "taxi", "start_time": "2026-11-01T00:00:00Z"}'

The query has the fields of `QueryEventsRequest`. FILE ends in `.ndjson` (a line of JSON per event,
each with its proof after --prove) or `.parquet` (a row per event; needs pyarrow). Beside it
`FILE.checkpoint` is the log's signed checkpoint, with whose size the export ends, however the log
grows meanwhile. What is sealed stays sealed. Invariant: FILE appears only once it is whole and on
disk.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import grpc
from axbridge.audit.v1 import audit_service_pb2 as service
from axbridge.audit.v1.audit_service_pb2_grpc import AuditServiceStub
from axbridge.audit.v1.entry_pb2 import Event
from google.protobuf import json_format

from services.audit.checkpoint import Checkpoint, text_of
from services.audit.entry import message_of
from services.runtime.wholefile import replace_file, sync_folder

_PAGE: Final = 1000
_ROWS: Final = 20_000  # of a row group in Parquet, some 20 MB in memory
_TIMEOUT_SECONDS: Final = 30


def found(stub: Any, query: service.QueryEventsRequest, size: int) -> Iterator[Event]:
    """The events of all pages, as far as the tree of `size` leaves has them."""
    query.page_size, query.page_token = _PAGE, ""
    while True:
        answer = stub.QueryEvents(query, timeout=_TIMEOUT_SECONDS)
        for event in answer.events:
            if event.leaf_index >= size:
                return
            yield event
        if not answer.next_page_token:
            return
        query.page_token = answer.next_page_token


def write_ndjson(path: Path, events: Iterator[Event]) -> int:
    """One line per event: the `Event` and, as `event`, the clear part of what was published."""
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for event in events:
            shown = json_format.MessageToDict(event, preserving_proto_field_name=True)
            shown.setdefault("leaf_index", "0")
            shown["event"] = _clear(event)
            file.write(json.dumps(shown, ensure_ascii=False, separators=(",", ":")) + "\n")
            count += 1
    return count


def write_parquet(path: Path, events: Iterator[Event]) -> int:
    """One row per event; `value` is the event octet for octet, `event` its clear part as JSON."""
    import pyarrow
    from pyarrow import parquet

    text, octets, whole = pyarrow.string(), pyarrow.binary(), pyarrow.int64()
    time = pyarrow.timestamp("ms", tz="UTC")
    schema = pyarrow.schema([
        ("leaf_index", whole), ("event_id", text), ("type", text), ("source", text), ("time", time),
        ("topic", text), ("partition", pyarrow.int32()), ("offset", whole),
        ("key", octets), ("value", octets), ("event", text),
    ])  # fmt: skip
    count = 0
    rows: list[dict[str, Any]] = []
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:

        def write() -> None:
            writer.write_table(pyarrow.Table.from_pylist(rows, schema=schema))
            rows.clear()

        for event in events:
            rows.append(_row(event))
            count += 1
            if len(rows) == _ROWS:
                write()
        write()
    return count


# By the end of the file's name.
WRITERS: Final[dict[str, Callable[[Path, Iterator[Event]], int]]] = {
    ".ndjson": write_ndjson,
    ".parquet": write_parquet,
}


def export(stub: Any, query: service.QueryEventsRequest, path: Path) -> int:
    """Writes FILE and FILE.checkpoint; the number of events."""
    answer = stub.GetCheckpoint(service.GetCheckpointRequest(), timeout=_TIMEOUT_SECONDS)
    size = Checkpoint.parse(text_of(answer.checkpoint.encode())).size
    replace_file(path.with_name(path.name + ".checkpoint"), answer.checkpoint.encode())
    new = path.with_name(path.name + ".new")
    # A crash before the rename leaves this name only, which the next export writes over.
    count = WRITERS[path.suffix](new, found(stub, query, size))
    with new.open("rb") as file:
        os.fsync(file)
    new.replace(path)
    sync_folder(path.parent)
    return count


def _row(event: Event) -> dict[str, Any]:
    entry = event.entry
    return {
        "leaf_index": event.leaf_index,
        "event_id": entry.event_id,
        "type": entry.type,
        "source": entry.source,
        "time": entry.time.ToMilliseconds(),
        "topic": entry.topic,
        "partition": entry.partition,
        "offset": entry.offset,
        "key": entry.key,
        "value": entry.value,
        "event": json.dumps(_clear(event), ensure_ascii=False),
    }


def _clear(event: Event) -> dict[str, Any]:
    message = message_of(event.entry)
    shown: dict[str, Any] = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return shown


def main(arguments: list[str] | None = None) -> int:
    """0 written, 1 the service refused or does not answer, 2 usage."""
    parser = argparse.ArgumentParser("python -m services.audit.export", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("address", metavar="HOST:PORT", help="of audit's gRPC service")
    parser.add_argument("file", type=Path, metavar="FILE", help="*.ndjson or *.parquet")
    parser.add_argument("--query", default="{}", metavar="JSON", help="default: the whole log")
    parser.add_argument("--prove", action="store_true", help="with each event's proof (NDJSON)")
    given = parser.parse_args(arguments)
    if given.file.suffix not in WRITERS:
        parser.error(f"{given.file.name} ends neither in .ndjson nor in .parquet")
    try:
        query = json_format.Parse(given.query, service.QueryEventsRequest())
    except json_format.ParseError:  # whose text would quote the query, and it may name a person
        parser.error("the query is no JSON of QueryEventsRequest")
    query.prove = given.prove
    with grpc.insecure_channel(given.address) as channel:
        try:
            count = export(AuditServiceStub(channel), query, given.file)
        except grpc.RpcError as error:
            print(f"not exported: {error.code().name}", file=sys.stderr)
            return 1
    print(f"{count} events in {given.file}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
