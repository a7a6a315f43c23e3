"""Compares a carrier's call records of a day with ours: `python -m services.audit.reconcile FILE`.

    --day 2026-11-25 --mapping MAPPING.toml --audit HOST:PORT [--kafka BOOTSTRAP]

FILE is CSV, read as the mapping says (`services.audit.cdr`); ours are the leaves `CallRecorded`
that audit's service finds. A log alone cannot show calls that never entered it. Prints a line of
JSON for each call that is missing, extra or different; with --kafka each is an event, too, and so a
leaf. Exit code: 0 all agree, 1 something does not, 2 it could not be compared.

Invariant: an event's id is made of its content, so comparing again adds nothing to the log.
"""

import argparse
import asyncio
import sys
from collections.abc import Iterator, Sequence
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import grpc
from axbridge.audit.v1 import audit_service_pb2 as service
from axbridge.audit.v1 import events_pb2 as events
from axbridge.audit.v1.audit_service_pb2_grpc import AuditServiceStub
from axbridge.router.v1 import events_pb2 as router
from confluent_kafka.admin import AdminClient
from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message

from services.audit.cdr import BadFile, Call, Comparison, FileMapping, Found, compare
from services.audit.export import found as query
from services.runtime.envelope import Envelope
from services.runtime.errors import AxbridgeError
from services.runtime.publisher import Outgoing, Publisher, PublishFailed
from services.runtime.topics import AUDIT_RECONCILIATION, partition_counts, partition_of

GOOD, DIFFERENT, UNUSABLE = 0, 1, 2
# A record follows the end of its call, and a call without an end is closed after some hours.
_LATEST_MS: Final = 26 * 3600 * 1000
_WHOLE_LOG: Final = 1 << 62
_ANSWERED: Final = router.CALL_OUTCOME_ANSWERED
_REFUSED: Final = router.CALL_OUTCOME_REFUSED


def ours(stub: Any, carrier: str, begin_ms: int, end_ms: int, slack_ms: int) -> Iterator[Call]:
    """Our calls of the carrier that began in [begin - slack, end + slack), each as its last record
    has it."""
    wanted = service.QueryEventsRequest(type="CallRecorded")
    wanted.start_time.FromMilliseconds(begin_ms - slack_ms)
    wanted.end_time.FromMilliseconds(end_ms + _LATEST_MS)
    last: dict[str, router.CallRecorded] = {}
    for event in query(stub, wanted, _WHOLE_LOG):
        record = router.CallRecorded.FromString(event.entry.value)
        began = record.call_time.ToMilliseconds()
        if record.carrier != carrier or not begin_ms - slack_ms <= began < end_ms + slack_ms:
            continue
        if record.call_id not in last or last[record.call_id].sequence < record.sequence:
            last[record.call_id] = record
    return map(_call, last.values())


def _call(record: router.CallRecorded) -> Call:
    return Call(
        record.call_id,
        record.number,
        record.call_time.ToMilliseconds(),
        record.duration.ToMilliseconds() if record.outcome == _ANSWERED else 0,
        record.q850_cause or None,
        record.outcome == _REFUSED,
        record.binding.tenant,
        record.binding.binding,
    )


def messages(
    fact: events.ReconciliationFact, compared: Comparison
) -> Iterator[tuple[str, Message]]:
    """The events of a comparison, each with its subject; the last one is the summary."""
    for found in compared.found:
        yield f"{fact.carrier}/{found.call.call_id}", _message(fact, found)
    yield (
        f"{fact.carrier}/{fact.day}",
        events.DayReconciled(
            fact=fact,
            matched_count=compared.matched,
            missing_count=compared.count("missing"),
            extra_count=compared.count("extra"),
            differing_count=compared.count("differs"),
        ),
    )


def _message(fact: events.ReconciliationFact, found: Found) -> Message:
    call = events.ReconciledCall(
        call_id=found.call.call_id,
        number=found.call.number,
        tenant=found.call.tenant,
        binding=found.call.binding,
    )
    call.call_time.FromMilliseconds(found.call.call_ms)
    match found.kind:
        case "missing":
            return events.CallMissing(fact=fact, call=call)
        case "extra":
            return events.CallExtra(fact=fact, call=call)
        case "differs":
            differences = [
                events.CallDifference(field=field, ours=ours, theirs=theirs)
                for field, ours, theirs in found.differences
            ]
            return events.CallDiffers(fact=fact, call=call, differences=differences)


def outgoing(subject: str, message: Message, time_ms: int, partitions: int) -> Outgoing:
    """The record of an event."""
    value = message.SerializeToString(deterministic=True)
    event_id = f"reconcile/{message.DESCRIPTOR.name}/{sha256(value).hexdigest()[:32]}"
    envelope = Envelope(event_id, message.DESCRIPTOR.full_name, "audit/reconcile", time_ms)
    return Outgoing(
        AUDIT_RECONCILIATION.name,
        partition_of(subject, partitions),
        subject.encode(),
        value,
        envelope.headers(),
    )


def publish(bootstrap: str, records: Sequence[Outgoing]) -> None:
    """Returns once all are acknowledged. Raises PublishFailed: run the comparison again."""
    publisher = Publisher(bootstrap)
    try:
        asyncio.run(publisher.publish(records))
    finally:
        publisher.close()


def _partitions(bootstrap: str) -> int:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    return partition_counts(admin, [AUDIT_RECONCILIATION])[AUDIT_RECONCILIATION.name]


def run(given: argparse.Namespace) -> int:
    """Raises BadFile, OSError, RpcError, PublishFailed, AxbridgeError: it could not be compared."""
    mapping = FileMapping.parse(given.mapping.read_text("utf-8"))
    begin, end = mapping.day(given.day)
    octets = given.file.read_bytes()
    theirs = mapping.calls(octets.decode("utf-8-sig").splitlines(keepends=True))
    with grpc.insecure_channel(given.audit) as channel:
        known = ours(AuditServiceStub(channel), mapping.carrier, begin, end, mapping.tolerance_ms)
        compared = compare(mapping, theirs, known, begin, end)
    fact = events.ReconciliationFact(
        carrier=mapping.carrier, day=given.day.isoformat(), file_sha256=sha256(octets).digest()
    )
    told = [*messages(fact, compared)]
    if given.kafka is not None:
        partitions = _partitions(given.kafka)
        publish(given.kafka, [outgoing(*each, end, partitions) for each in told])
    for _, message in told:
        shown = MessageToJson(message, preserving_proto_field_name=True, indent=None)
        print(f'{{"{message.DESCRIPTOR.name}": {shown}}}')
    return DIFFERENT if compared.found else GOOD


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m services.audit.reconcile", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("file", type=Path, metavar="FILE", help="the carrier's CSV of one day")
    parser.add_argument("--day", type=date.fromisoformat, required=True, metavar="YYYY-MM-DD")
    parser.add_argument("--mapping", type=Path, required=True, metavar="TOML")
    parser.add_argument("--audit", required=True, metavar="HOST:PORT", help="audit's gRPC service")
    parser.add_argument("--kafka", metavar="BOOTSTRAP", help="publish what is found")
    given = parser.parse_args(arguments)
    try:
        return run(given)
    except grpc.RpcError as error:
        why = f"audit answers {error.code().name}"
    except UnicodeDecodeError:
        why = "a file is not UTF-8"
    except OSError as error:
        why = f"a file cannot be read: {error.strerror}"
    except (BadFile, PublishFailed, AxbridgeError) as error:
        why = str(error)
    print(f"not compared: {why}", file=sys.stderr)
    return UNUSABLE


if __name__ == "__main__":
    sys.exit(main())
