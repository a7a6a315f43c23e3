"""The shared brokers of a run: started once, on the first question, and stopped at the end."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests import brokers
from tests.brokers import BrokerUnavailable, SharedBrokers, ask


class MemoryBroker:
    """Stands for either broker; counts its starts and stops over all instances."""

    starts, stops, refuses = 0, 0, False
    bootstrap, url = "127.0.0.1:1", "redis://127.0.0.1:2"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def start(self) -> "MemoryBroker":
        if type(self).refuses:
            raise RuntimeError("refused")
        type(self).starts += 1
        return self

    def stop(self) -> None:
        type(self).stops += 1


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> type[MemoryBroker]:
    fresh = type("Fresh", (MemoryBroker,), {})
    monkeypatch.setattr(brokers, "Kafka", fresh)
    monkeypatch.setattr(brokers, "Valkey", fresh)
    monkeypatch.delenv("AXBRIDGE_TESTCONTAINERS", raising=False)
    return fresh


def test_nothing_starts_unless_asked(memory: type[MemoryBroker]) -> None:
    shared = SharedBrokers()
    shared.serve()
    shared.stop()
    assert (memory.starts, memory.stops) == (0, 0)


def test_many_askers_get_one_broker(memory: type[MemoryBroker]) -> None:
    shared = SharedBrokers()
    socket = shared.serve()
    with ThreadPoolExecutor(8) as askers:
        answers = set(askers.map(lambda _: ask(socket, "kafka"), range(16)))
    assert answers == {"127.0.0.1:1"}
    assert shared.address("valkey") == "redis://127.0.0.1:2"
    assert memory.starts == 2
    shared.stop()
    assert memory.stops == 2
    assert not Path(socket).parent.exists()


def test_a_broker_that_refuses_fails_the_asker(memory: type[MemoryBroker]) -> None:
    memory.refuses = True
    shared = SharedBrokers()
    socket = shared.serve()
    with pytest.raises(BrokerUnavailable, match="RuntimeError: refused"):
        ask(socket, "valkey")
    shared.stop()
