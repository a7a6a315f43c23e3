"""The command that creates topics: it waits for brokers, and says what is wrong."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from deploy import topics as command
from deploy.topics import BrokersMissing, await_brokers, main, parser
from services.runtime import topics
from services.runtime.errors import FailedPrecondition


class MemoryAdmin:
    """Knows more brokers with every question."""

    def __init__(self, *brokers: int | Exception) -> None:
        self._answers: Iterator[int | Exception] = iter(brokers)

    def list_topics(self, timeout: float) -> Any:
        answer = next(self._answers)
        if isinstance(answer, Exception):
            raise answer
        return SimpleNamespace(brokers=dict.fromkeys(range(answer)))


def waits(admin: MemoryAdmin, wanted: int, seconds: float) -> None:
    ticks = iter(range(1000))
    await_brokers(cast(AdminClient, admin), wanted, seconds, lambda: next(ticks))


def test_waits_until_enough_brokers_are_there() -> None:
    waits(MemoryAdmin(KafkaException("away"), 0, 1, 2, 3), wanted=3, seconds=10)


def test_gives_up_at_the_deadline() -> None:
    with pytest.raises(BrokersMissing, match="2 of 3 brokers answered in 3 s"):
        waits(MemoryAdmin(*[2] * 10), wanted=3, seconds=3)


def test_the_deadline_is_looked_at_after_asking() -> None:
    waits(MemoryAdmin(1), wanted=1, seconds=0)


@pytest.fixture
def brokers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    calls: list[str] = []
    monkeypatch.setattr(command, "await_brokers", lambda *_: None)
    monkeypatch.setattr(topics, "ensure", lambda *_, **given: calls.append(str(given)))
    monkeypatch.setattr(
        topics, "partition_counts", lambda _, known: {topic.name: 64 for topic in known}
    )
    return calls


def test_creates_and_prints_every_topic(
    brokers: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--bootstrap", "127.0.0.1:9", "--partitions", "8", "--replication", "3"]) == 0
    assert brokers == ["{'partitions': 8, 'replication': 3}"]
    names = [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()]
    assert names == [topic.name for topic in topics.CATALOGUE]


def test_only_checks_if_asked(brokers: list[str]) -> None:
    assert main(["--bootstrap", "127.0.0.1:9", "--check"]) == 0
    assert brokers == []


def test_a_topic_that_differs_is_told_and_the_status_is_1(
    brokers: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def differs(*_: object, **__: object) -> None:
        raise FailedPrecondition("TOPIC_DIFFERS", topic="binding.state.v1")

    monkeypatch.setattr(topics, "ensure", differs)
    assert main(["--bootstrap", "127.0.0.1:9"]) == 1
    assert capsys.readouterr().err == "TOPIC_DIFFERS topic=binding.state.v1\n"


def test_a_topic_that_stays_missing_is_told(
    brokers: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(*_: object) -> None:
        raise FailedPrecondition("TOPIC_MISSING", topic="router.calls.v1")

    monkeypatch.setattr(topics, "partition_counts", missing)
    assert main(["--bootstrap", "127.0.0.1:9", "--wait", "0"]) == 1
    assert "TOPIC_MISSING" in capsys.readouterr().err


def test_an_address_is_required() -> None:
    with pytest.raises(SystemExit):
        parser().parse_args([])
