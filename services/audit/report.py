"""The daily report to the ministry's platform (R18): `python -m services.audit.report`.

    make DAY --audit HOST:PORT --region R --platform P --key FILE --out FOLDER [--size N]
    check BUNDLE --vkey VKEY
    deliver BUNDLE --to FOLDER

A day's events are those whose time is in it (Asia/Shanghai) and that were leaves when the report
was made; --size makes it of that state of the log once more, with the same octets. --key is a key
of its own, made if it is missing. Exit code: 0 done, 1 the bundle is wrong or refused, 2 not now.
"""

import argparse
import heapq
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, timedelta
from datetime import time as midnight
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import grpc
from axbridge.audit.v1 import audit_service_pb2 as service
from axbridge.audit.v1.audit_service_pb2_grpc import AuditServiceStub
from google.protobuf.json_format import MessageToDict

from services.audit.bundle import BadBundle, Source, Subject, begun, check, write
from services.audit.checkpoint import (
    BadKey,
    Checkpoint,
    NoteSigner,
    NoteVerifier,
    check_name,
    text_of,
)
from services.audit.delivery import DeliveryConflict, FolderReceiver, deliver
from services.audit.entry import message_of
from services.audit.export import found
from services.audit.proof import BadProof, root_from_inclusion
from services.runtime.wholefile import replace_file

DONE, WRONG, NOT_NOW = 0, 1, 2
_TIMEOUT_SECONDS: Final = 30
ZONE: Final = ZoneInfo("Asia/Shanghai")
TYPES: Final[Mapping[str, tuple[str, ...]]] = {
    "bindings": ("BindingCreated", "BindingUpdated", "BindingReleased"),
    "calls": ("CallRecorded",),
    "consents": (
        "ConsentGranted", "ConsentWithdrawalRequested", "ConsentWithdrawn", "ConsentDrained",
        "ConsentErased",
    ),
}  # fmt: skip


def rows(stub: Any, part: str, subject: Subject, size: int) -> Iterator[dict[str, Any]]:
    """The lines of a part, in the order of leaves. Of bindings and calls those on the platform's
    numbers; consents are given to the tenant and stand in each of its platforms' reports."""
    begins = datetime.combine(date.fromisoformat(subject.day), midnight(), ZONE)
    by_kind = []
    for kind in TYPES.get(part, ()):
        query = service.QueryEventsRequest(type=kind)
        query.start_time.FromDatetime(begins)
        query.end_time.FromDatetime(begins + timedelta(days=1))
        by_kind.append(found(stub, query, size))
    for event in heapq.merge(*by_kind, key=lambda event: event.leaf_index):
        message: Any = message_of(event.entry)
        number = message.number if part == "calls" else getattr(message.fact, "number", "")
        if part != "consents" and number[4:11] != subject.platform:
            continue
        message.ClearField("secrets")  # what is sealed is for an approved unmask only
        yield {
            "leaf": event.leaf_index,
            "event_id": event.entry.event_id,
            "type": event.entry.type,
            "time": event.entry.time.ToJsonString(),
            "event": MessageToDict(message, preserving_proto_field_name=True),
        }


def make(given: argparse.Namespace) -> Path:
    """Makes the bundle, or goes on with one that was begun; errors as `bundle.write`, RpcError."""
    subject = Subject(given.region, given.platform, given.day.isoformat())
    source = begun(given.out, subject) if given.size is None else None
    with grpc.insecure_channel(given.audit) as channel:
        stub: Any = AuditServiceStub(channel)
        source = source or source_of(stub, given.size)
        parts = {part: rows(stub, part, subject, source.size) for part in TYPES}
        return write(given.out, subject, source, parts, _signer(given.key, given.region))


def source_of(stub: Any, size: int | None) -> Source:
    """The published state of the log, or an earlier one of `size` leaves."""
    answer = stub.GetCheckpoint(service.GetCheckpointRequest(), timeout=_TIMEOUT_SECONDS)
    now = Checkpoint.parse(text_of(answer.checkpoint.encode()))
    if size is None or size == now.size:
        return Source(now.origin, now.size, now.root.hex())
    last = service.GetInclusionProofRequest(leaf_index=size - 1, tree_size=size)
    proof = stub.GetInclusionProof(last, timeout=_TIMEOUT_SECONDS)
    root = root_from_inclusion(proof.leaf_hash, size - 1, size, list(proof.hashes))
    return Source(now.origin, size, root.hex())


def _signer(path: Path, region: str) -> NoteSigner:
    try:
        return NoteSigner.parse(path.read_text().removesuffix("\n"))
    except FileNotFoundError:
        signer = NoteSigner.generate(check_name(f"axbridge.invalid/report/{region}"))
        replace_file(path, signer.skey().encode() + b"\n", mode=0o600)
        return signer


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m services.audit.report", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("make")
    making.add_argument("day", type=date.fromisoformat, metavar="YYYY-MM-DD")
    making.add_argument("--audit", required=True, metavar="HOST:PORT", help="audit's gRPC service")
    making.add_argument("--region", required=True, type=_name, help="letters and digits")
    making.add_argument("--platform", required=True, type=_platform, help="7 digits")
    making.add_argument("--key", required=True, type=Path, metavar="FILE")
    making.add_argument("--out", required=True, type=Path, metavar="FOLDER")
    making.add_argument("--size", type=int, help="of the log that it is made of, default: now")
    checking = commands.add_parser("check")
    checking.add_argument("bundle", type=Path)
    checking.add_argument("--vkey", required=True)
    delivering = commands.add_parser("deliver")
    delivering.add_argument("bundle", type=Path)
    delivering.add_argument("--to", required=True, type=Path, metavar="FOLDER")
    given = parser.parse_args(arguments)
    try:
        print(_COMMANDS[given.command](given))
    except (BadBundle, BadKey, BadProof, DeliveryConflict) as error:
        print(f"NO: {error}", file=sys.stderr)
        return WRONG
    except grpc.RpcError as error:
        print(f"not now: audit answers {error.code().name}", file=sys.stderr)
        return NOT_NOW
    except OSError as error:
        print(f"not now: {error.strerror}", file=sys.stderr)
        return NOT_NOW
    return DONE


def _check(given: argparse.Namespace) -> str:
    manifest = check(given.bundle, NoteVerifier.parse(given.vkey))
    counts = ", ".join(f"{file['count']} in {file['name']}" for file in manifest["files"])
    return (
        f"YES: {counts}; of {manifest['source']['size']} leaves of {manifest['source']['origin']}"
    )


def _deliver(given: argparse.Namespace) -> str:
    deliver(FolderReceiver(given.to), given.bundle, time.sleep)
    return f"delivered {given.bundle.name}"


def _name(text: str) -> str:
    if not (text.isascii() and text.isalnum()):
        raise ValueError
    return text


def _platform(text: str) -> str:
    if not (text.isascii() and text.isdigit() and len(text) == 7):
        raise ValueError
    return text


_COMMANDS: Final[Mapping[str, Callable[[argparse.Namespace], object]]] = {
    "make": make,
    "check": _check,
    "deliver": _deliver,
}

if __name__ == "__main__":
    sys.exit(main())
