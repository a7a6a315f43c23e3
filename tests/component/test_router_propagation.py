"""Who has applied a change: told by a real pod on a real Kafka, asked of the records process."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from axbridge.router.v1 import view_service_pb2 as pb
from axbridge.router.v1 import view_service_pb2_grpc
from axbridge.router.v1.events_pb2 import ViewApplied

from services.router.propagation import Place, Positions, Teller, report, spread
from services.router.translate import milliseconds, timestamp
from services.runtime.clock import ManualClock
from services.runtime.ids import TimeOrderedIds
from services.runtime.placement import IDENTITY
from services.runtime.publisher import Outgoing
from services.runtime.status import reason_of
from tests.conftest import NewTopicName
from tests.router_world import BindingStub, World, eventually, free_port, now_ms, process

PARTITIONS = 4
AT = 1_800_000_000_000
ROUTE = Place("routes", 1, 7, AT)


def told(router: str, after_ms: int, offset: int) -> ViewApplied:
    return report(router, AT + after_ms, AT, {("routes", 1): offset, ("keys", 0): 3})


def test_what_a_router_tells() -> None:
    made = report("r1", AT, 0, {
        ("routes", 2): 9, ("routes", 0): 4, ("keys", 0): 1, ("keys", IDENTITY): 77,
    })  # fmt: skip
    assert [(p.topic, [*p.next_offsets]) for p in made.positions] == [
        ("keys", [1]), ("routes", [4, 0, 9]),
    ]  # fmt: skip
    assert (made.router, made.time, made.HasField("fresh_time")) == ("r1", timestamp(AT), False)
    assert told("r1", 0, 1).fresh_time == timestamp(AT)


def test_who_applied_it_and_when() -> None:
    found = spread(
        ROUTE,
        [
            told("r2", 100, 7), told("r1", 200, 8), told("r2", 1100, 7), told("r1", 1200, 9),
            told("r0", 1300, 0), told("r2", 2100, 8), told("r2", 3100, 8),
        ],
    )  # fmt: skip
    assert [each.router for each in found] == ["r0", "r1", "r2"]
    silent, first, second = found
    assert not silent.HasField("apply_time")
    assert first.apply_time == timestamp(AT + 200)
    assert (second.apply_time, second.report_time) == (
        timestamp(AT + 2100),
        timestamp(AT + 3100),
    )


def test_reading_stops_once_it_is_everywhere() -> None:
    items = iter([told("r1", 500, 8), told("r1", 10_001, 8), told("r1", 11_000, 9)])
    spread(ROUTE, items)
    assert next(items) == told("r1", 11_000, 9)
    items = iter([told("r1", 500, 8), told("r2", 20_000, 7), told("r2", 21_000, 8)])
    assert [milliseconds(each.apply_time) - AT for each in spread(ROUTE, items)] == [500, 21_000]


class MemoryView:
    published: object | None = None

    def positions(self) -> Positions:
        return {("routes", 0): 5}


class MemoryPublisher:
    def __init__(self) -> None:
        self.count, self.published = 2, list[Outgoing]()

    def partitions(self, topic: str) -> int:
        return self.count

    def publish(self, batch: Sequence[Outgoing]) -> bool:
        self.published += batch
        return True


def test_only_a_file_that_workers_have_opened_is_told_of() -> None:
    view, publisher = MemoryView(), MemoryPublisher()
    teller = Teller(publisher, "views", "r1", view, lambda: 1.5, ManualClock(), TimeOrderedIds())
    steps: list[tuple[str | None, int, int]] = [
        (None, 2, 0), ("one", 2, 0), ("one", 2, 1), ("two", 2, 1), ("two", 0, 1), ("two", 2, 2),
        (None, 2, 2), ("two", 2, 2),
    ]  # fmt: skip
    for file, partitions, expected in steps:
        view.published, publisher.count = file, partitions
        teller.tell()
        assert len(publisher.published) == expected
    [first, _] = publisher.published
    assert (first.topic, first.key) == ("views", b"r1")
    assert ViewApplied.FromString(first.value or b"").fresh_time == timestamp(1500)


@pytest.fixture
def pod(kafka_bootstrap: str, new_topic: NewTopicName, tmp_path: Path) -> Iterator[SimpleNamespace]:
    """A router, the records process, and a binding stub."""
    world = World(tmp_path)
    names = ("routes", "keys", "denials", "callers", "calls", "records", "views")
    topics = {name: new_topic(name, partitions=PARTITIONS) for name in names}
    listen = f"127.0.0.1:{free_port()}"
    environment = {
        "ROUTER_LISTEN": f"127.0.0.1:{free_port()}", "ROUTER_KAFKA_BOOTSTRAP": kafka_bootstrap,
        "ROUTER_DATA_DIR": str(tmp_path / "data"), "ROUTER_KEYRING_DIR": str(tmp_path / "keys"),
        "ROUTER_EVIDENCE_PUBLIC_KEY": str(tmp_path / "evidence" / "evidence-public.pem"),
        "ROUTER_WORKERS": "1", "ROUTER_ID": "r1", "ROUTER_RECORDS_LISTEN": listen,
        **{f"ROUTER_{name.upper()}_TOPIC": topic for name, topic in topics.items()},
    }  # fmt: skip
    with (
        process("services.router", environment, tmp_path / "router.log"),
        process("services.router.records", environment, tmp_path / "records.log"),
        grpc.insecure_channel(listen) as channel,
    ):
        stub = view_service_pb2_grpc.ViewServiceStub(channel)

        def ask(number: str, binding: str, version: int, time_ms: int) -> Any:
            request = pb.GetPropagationRequest(
                number=number, binding=binding, version=version, event_time=timestamp(time_ms)
            )
            return stub.GetPropagation(request, timeout=15, wait_for_ready=True)

        yield SimpleNamespace(
            world=world, ask=ask,
            binding=BindingStub(kafka_bootstrap, topics["routes"], topics["keys"], PARTITIONS),
        )  # fmt: skip


@pytest.mark.timeout(120)
def test_a_router_tells_what_it_applied(pod: SimpleNamespace) -> None:
    number, began = pod.world.number(), now_ms()
    pod.binding.publish(pod.world.route(number, "b1", "+8613812345678", "+8613912345678"))

    def applied(version: int) -> Any:
        found = pod.ask(number, "b1", version, began)
        return found if any(each.HasField("apply_time") for each in found.routers) else None

    answer = eventually(lambda: applied(1), 60, what="the router's word")
    [router] = answer.routers
    assert router.router == "r1"
    assert milliseconds(router.apply_time) >= milliseconds(answer.publish_time) >= began - 1000
    for binding, version in (("b1", 2), ("b2", 1)):
        with pytest.raises(grpc.RpcError) as caught:
            pod.ask(number, binding, version, began)
        assert reason_of(caught.value) == "CHANGE_NOT_PUBLISHED"
    pod.binding.end(number, "b1", 2)
    assert eventually(lambda: applied(2), 60, what="word of the end").publish_time
    for asked in (("7", "b1", 1, began), (number, "", 1, began), (number, "b1", 0, began)):
        with pytest.raises(grpc.RpcError) as caught:
            pod.ask(*asked)
        assert reason_of(caught.value) == "INVALID_FIELD"
