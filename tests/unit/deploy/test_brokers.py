"""Both brokers as one: what is started is stopped, in whatever way it ends."""

from pathlib import Path

import pytest

from deploy.local import brokers
from deploy.local.brokers import Brokers, FolderInUse


class MemoryBroker:
    """Stands for Kafka and Valkey alike; notes whether it runs."""

    def __init__(self, folder: Path, **options: object) -> None:
        self.folder, self.options = folder, options
        self.running, self.refuses = False, False
        self.bootstrap, self.url = "127.0.0.1:1", "redis://127.0.0.1:2"

    def start(self) -> None:
        if self.refuses:
            raise RuntimeError("refused")
        self.running = True

    def stop(self) -> None:
        self.running = False


@pytest.fixture
def both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Brokers:
    monkeypatch.setattr(brokers, "Kafka", MemoryBroker)
    monkeypatch.setattr(brokers, "Valkey", MemoryBroker)
    return Brokers(tmp_path, kafka_port=1, valkey_port=2)


def test_both_run_in_the_context_and_neither_after_it(both: Brokers) -> None:
    with both as running:
        assert vars(running.kafka)["running"]
        assert vars(running.valkey)["running"]
    assert not vars(both.kafka)["running"]
    assert not vars(both.valkey)["running"]


def test_if_one_fails_neither_is_left(both: Brokers) -> None:
    vars(both.kafka)["refuses"] = True
    with pytest.raises(RuntimeError, match="refused"):
        both.start()
    assert not vars(both.valkey)["running"]


def test_the_environment_names_the_addresses(both: Brokers) -> None:
    assert both.environment() == {
        "KAFKA_BOOTSTRAP": "127.0.0.1:1",
        "REDIS_URL": "redis://127.0.0.1:2",
    }


def test_a_folder_has_one_owner_at_a_time(both: Brokers, tmp_path: Path) -> None:
    second = Brokers(tmp_path)
    with both, pytest.raises(FolderInUse, match=str(tmp_path)):
        second.start()
    with second:
        assert vars(second.kafka)["running"]
