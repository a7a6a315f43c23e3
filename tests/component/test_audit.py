"""audit's sequencer on a real Kafka: two of them, its verdict against the topics, topics made anew.
Killing it is tests/fault/test_sequencer_kill.py."""

import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from services.audit import verify
from services.audit.compare import compare_with_topics
from tests.audit_events import Publisher, created, routed
from tests.audit_source import Source, until
from tests.audit_storm import PARTITIONS, Keeper


@pytest.fixture
def source(kafka_bootstrap: str, tmp_path: Path) -> Iterator[Source]:
    with Source.made(kafka_bootstrap, tmp_path / "audit", PARTITIONS) as made:
        yield made


def test_a_second_sequencer_idles_until_the_first_ends(source: Source) -> None:
    publisher, keeper = Publisher(source.bootstrap), Keeper(source.served)
    with source.sequencer() as first:
        until(keeper.look)
        with source.sequencer() as second:
            publisher.publish(source.bindings, "one", created("b1"))
            publisher.flush()
            until(lambda: keeper.look() and keeper.check(source.vkey) == 1)
            assert first.poll() is None
            assert second.poll() is None
            first.kill()
            first.wait()
            publisher.publish(source.bindings, "two", created("b2"))
            publisher.flush()
            until(lambda: keeper.look() and keeper.check(source.vkey) == 2)
            second.send_signal(signal.SIGTERM)
            assert second.wait(10) == 0


def test_two_logs_share_the_partitions(source: Source, tmp_path: Path) -> None:
    publisher = Publisher(source.bootstrap)
    for serial in range(30):
        partition = serial % PARTITIONS
        publisher.publish(source.bindings, f"e{serial}", created(f"b{serial}"), partition)
    publisher.flush()
    logs = [replace(source, root=tmp_path / f"log-{group}") for group in range(2)]

    def settings(group: int) -> dict[str, str]:
        return {
            "AUDIT_GROUPS": "2",
            "AUDIT_GROUP": f"{group}",
            "AUDIT_ORIGIN": f"log.example/{group}",
        }

    with logs[0].sequencer(**settings(0)), logs[1].sequencer(**settings(1)):
        keepers = [Keeper(log.served) for log in logs]
        for log, keeper, size in zip(logs, keepers, (20, 10), strict=True):  # partitions 0, 2 and 1
            until(lambda: keeper.look() and keeper.check(log.vkey) == size)  # noqa: B023
    for group, log in enumerate(logs):
        assert verify.verify_folder(log.served, log.vkey).ok
        mine = lambda partition: partition % 2 == group  # noqa: B023, E731
        assert compare_with_topics(log.served, log.vkey, log.bootstrap, log.topics, mine=mine) == []
    with logs[0].sequencer(**settings(1) | {"AUDIT_ORIGIN": "log.example/0"}) as process:
        assert process.wait(30) == 1  # the groups of a log stay as they are


def test_comparison_finds_what_is_missing_and_what_differs(source: Source) -> None:
    publisher, keeper = Publisher(source.bootstrap), Keeper(source.served)
    with source.sequencer() as process:
        publisher.publish(source.bindings, "one", created("b1"))
        publisher.flush()
        until(lambda: keeper.look() and keeper.check(source.vkey) == 1)
        process.send_signal(signal.SIGTERM)
        process.wait(10)

    def problems() -> list[str]:
        return compare_with_topics(source.served, source.vkey, source.bootstrap, source.topics)

    assert problems() == []
    publisher.publish(source.bindings, "one", created("b1"))  # a repeat is no leaf of its own
    publisher.publish(source.calls, "two", routed("c1"), 1)
    publisher.flush()
    assert problems() == [f"{source.calls}[1]@0: event two is no leaf"]
    arguments = [str(source.served), "--kafka", source.bootstrap]
    assert verify.main([*arguments]) == 2  # the catalogue's own topics are not here


def test_a_topic_made_anew_ends_the_sequencer_until_a_person_accepts_it(source: Source) -> None:
    publisher, keeper = Publisher(source.bootstrap), Keeper(source.served)
    with source.sequencer():
        for serial in range(3):
            publisher.publish(source.bindings, f"old-{serial}", created("b"))
        publisher.flush()
        until(lambda: keeper.look() and keeper.check(source.vkey) == 3)
    source.remake(source.bindings, PARTITIONS)
    publisher = Publisher(source.bootstrap)
    for event_id in ("old-1", "new"):
        publisher.publish(source.bindings, event_id, created("b"))
    publisher.flush()
    with source.sequencer() as process:
        assert process.wait(30) == 1
    assert keeper.check(source.vkey) == 3
    with source.sequencer(AUDIT_ACCEPT_VOID="true"):
        until(lambda: keeper.look() and keeper.check(source.vkey) == 4)
