"""A carrier's day compared with what audit's service answers; what is found is on Kafka, once."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from axbridge.audit.v1 import audit_service_pb2 as service
from axbridge.audit.v1 import audit_service_pb2_grpc as rpc
from axbridge.audit.v1 import events_pb2 as events
from axbridge.router.v1 import events_pb2 as router
from confluent_kafka import Consumer, TopicPartition

from deploy.local.kafka import quiet_admin
from deploy.local.waiting import eventually
from services.audit import reconcile
from services.audit.entry import event_of, types_of
from services.runtime.message import to_record
from services.runtime.topics import AUDIT_RECONCILIATION, ensure, partition_counts
from tests.audit_events import number

NINE = int(datetime(2026, 11, 25, 1, tzinfo=UTC).timestamp() * 1000)
MAPPING = """
carrier = "cm"
[columns]
call_id = "ID"
number = "X"
call_time = "START"
duration = "SECONDS"
"""
FILE = f"""ID,X,START,SECONDS,CALLER
same,{number(1)},2026-11-25T09:00:00+08:00,55,13800138000
longer,{number(2)},2026-11-25T09:00:00+08:00,60,13800138000
missing,{number(3)},2026-11-25T09:00:00+08:00,1,13800138000
"""


def recorded(
    call: str, serial: int, sequence: int = 1, carrier: str = "cm", seconds: int = 55
) -> Any:
    record = router.CallRecorded(
        carrier=carrier, call_id=call, sequence=sequence, number=number(serial),
        binding=router.CallBinding(tenant="taxi", binding=f"b{serial}"),
        outcome=router.CALL_OUTCOME_ANSWERED,
    )  # fmt: skip
    record.call_time.FromMilliseconds(NINE)
    record.duration.FromSeconds(seconds)
    return record


class Answers(rpc.AuditServiceServicer):
    """audit with these records; two to a page."""

    records = (
        recorded("same", 1, 1, seconds=3),
        recorded("same", 1, 2),  # a late event changed it
        recorded("longer", 2),
        recorded("extra", 4),
        recorded("another's", 5, carrier="ct"),
    )

    def QueryEvents(self, request: Any, context: Any) -> service.QueryEventsResponse:
        assert request.type == "CallRecorded"
        first = int(request.page_token or 0)
        more = first + 2 < len(self.records)
        answer = service.QueryEventsResponse(next_page_token=str(first + 2) if more else "")
        for record in self.records[first : first + 2]:
            answer.events.add().entry.value = record.SerializeToString()
        return answer


@pytest.fixture
def audit() -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(1))
    kind: Any = Answers  # the other rpcs answer UNIMPLEMENTED
    rpc.add_AuditServiceServicer_to_server(kind(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


def read(bootstrap: str, seen: int) -> list[Any]:
    """What stands on the topic, once it has at least `seen` records."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "unused"})
    counts = partition_counts(quiet_admin(bootstrap), [AUDIT_RECONCILIATION])
    partitions = range(counts[AUDIT_RECONCILIATION.name])
    consumer.assign([TopicPartition(AUDIT_RECONCILIATION.name, p, 0) for p in partitions])
    found: list[Any] = []

    def enough() -> bool:
        found.extend(filter(None, map(to_record, consumer.consume(100, timeout=0.2))))
        return len(found) >= seen

    eventually(enough, 30)
    consumer.close()
    return found


def test_a_day_is_compared_and_told(
    audit: str, kafka_bootstrap: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ensure(quiet_admin(kafka_bootstrap), partitions=2, topics=[AUDIT_RECONCILIATION])
    (tmp_path / "cdr.csv").write_text(FILE)
    (tmp_path / "mapping.toml").write_text(MAPPING)
    arguments = [str(tmp_path / "cdr.csv"), "--day", "2026-11-25", "--audit", audit,
                 "--mapping", str(tmp_path / "mapping.toml")]  # fmt: skip
    assert reconcile.main(arguments) == reconcile.DIFFERENT
    printed = capsys.readouterr().out
    assert [line.split('"')[1] for line in printed.splitlines()] == [
        "CallExtra", "CallDiffers", "CallMissing", "DayReconciled",
    ]  # fmt: skip
    assert "13800138000" not in printed

    for _ in range(2):  # the second time repeats the events: the same ids, octet for octet
        assert reconcile.main([*arguments, "--kafka", kafka_bootstrap]) == reconcile.DIFFERENT
    records = read(kafka_bootstrap, 8)
    types = types_of(AUDIT_RECONCILIATION)
    made = {event_of(record, types).event_id: record for record in records}
    assert (len(records), len(made)) == (8, 4)
    assert len({(record.value, record.envelope.time_ms) for record in records}) == 4
    values: dict[str, Any] = {
        record.envelope.type.rpartition(".")[2]: types[record.envelope.type].FromString(
            record.value
        )
        for record in made.values()
    }
    extra, differs, missing = (values[f"Call{kind}"] for kind in ("Extra", "Differs", "Missing"))
    assert (extra.call.call_id, extra.call.tenant, extra.call.binding) == ("extra", "taxi", "b4")
    assert [*differs.differences] == [
        events.CallDifference(field="duration", ours="55", theirs="60")
    ]
    assert (missing.call.call_id, missing.call.number) == ("missing", number(3))
    day = values["DayReconciled"]
    assert (day.matched_count, day.missing_count, day.extra_count, day.differing_count) == (
        1,
        1,
        1,
        1,
    )
    assert (day.fact.carrier, day.fact.day) == ("cm", "2026-11-25")

    same = FILE.splitlines(keepends=True)[:2]
    (tmp_path / "cdr.csv").write_text("".join(same) + FILE.splitlines()[2].replace("60", "55"))
    assert reconcile.main(arguments) == reconcile.DIFFERENT  # `extra` alone
    assert capsys.readouterr().out.count("Call") > 0


def test_what_cannot_be_compared(
    audit: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cdr.csv").write_text(FILE.replace(number(3), "13800138000"))
    (tmp_path / "mapping.toml").write_text(MAPPING)
    day = ["--day", "2026-11-25", "--mapping", str(tmp_path / "mapping.toml")]
    file = str(tmp_path / "cdr.csv")
    assert reconcile.main([file, *day, "--audit", audit]) == reconcile.UNUSABLE
    assert reconcile.main([file + "x", *day, "--audit", audit]) == reconcile.UNUSABLE
    (tmp_path / "cdr.csv").write_text(FILE)
    assert reconcile.main([file, *day, "--audit", "127.0.0.1:1"]) == reconcile.UNUSABLE
    told = capsys.readouterr().err
    assert "line 4: the middle number is none" in told
    assert "audit answers UNAVAILABLE" in told
    assert "13800138000" not in told
