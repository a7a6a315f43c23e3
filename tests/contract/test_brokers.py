"""The real brokers as `deploy.local` starts them: what a restart keeps, and what a kill does."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from deploy.local.compaction import contents, force_compaction
from deploy.local.kafka import Kafka, quiet_admin
from deploy.local.places import ROOT, listens
from deploy.local.process import ChildDied
from deploy.local.valkey import Valkey
from deploy.local.waiting import eventually
from tests.factories import unique

COMPACTED = {"cleanup.policy": "compact", "min.compaction.lag.ms": "3600000"}


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[Kafka]:
    """A broker that the test may stop and kill."""
    with Kafka(tmp_path / "kafka") as kafka:
        yield kafka


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[Valkey]:
    """A server that the test may stop and kill; it keeps an append-only file."""
    with Valkey(tmp_path / "valkey", appendonly=True) as valkey:
        yield valkey


def _produce(bootstrap: str, topic: str, *pairs: tuple[bytes, bytes | None]) -> None:
    with Producer({"bootstrap.servers": bootstrap, "acks": "all", "log_level": 0}) as producer:
        for key, value in pairs:
            producer.produce(topic, value, key, headers=[("ce_id", key)])
        assert producer.flush(20) == 0


def _create(admin: AdminClient, name: str) -> None:
    admin.create_topics([NewTopic(name, num_partitions=1)])[name].result(10)


def test_kafka_returns_what_was_produced(
    kafka_bootstrap: str, new_topic: Callable[..., str]
) -> None:
    topic = new_topic("roundtrip", partitions=3)
    pairs = [(b"key-%d" % n, b"value-%d" % n) for n in range(30)]
    _produce(kafka_bootstrap, topic, *pairs)
    found = contents(kafka_bootstrap, topic)
    assert sorted((r.key, r.value) for r in found) == sorted(pairs)
    assert all(record.headers == (("ce_id", record.key),) for record in found)


def test_kafka_makes_no_topic_by_accident(kafka_bootstrap: str) -> None:
    with pytest.raises(KafkaException, match="UNKNOWN_TOPIC"):
        contents(kafka_bootstrap, unique("nowhere"))


@pytest.mark.parametrize("end", [Kafka.stop, Kafka.kill], ids=["stop", "kill"])
def test_kafka_keeps_topics_and_records_over_a_restart(
    own_kafka: Kafka, end: Callable[[Kafka], None]
) -> None:
    _create(quiet_admin(own_kafka.bootstrap), "kept")
    _produce(own_kafka.bootstrap, "kept", (b"a", b"1"), (b"b", b"2"))
    end(own_kafka)
    assert not listens(own_kafka.port)
    own_kafka.start()
    _produce(own_kafka.bootstrap, "kept", (b"c", b"3"))
    assert [r.key for r in contents(own_kafka.bootstrap, "kept")] == [b"a", b"b", b"c"]


def test_forced_compaction_keeps_the_last_record_of_each_key(
    kafka_bootstrap: str, new_topic: Callable[..., str]
) -> None:
    topic = new_topic("compacted", partitions=2, config=COMPACTED)
    rounds = [(b"k%d" % key, b"%d" % turn) for turn in range(20) for key in range(10)]
    _produce(kafka_bootstrap, topic, *rounds, (b"k0", None))
    assert force_compaction(kafka_bootstrap, topic) > 150
    folded = {record.key: record.value for record in contents(kafka_bootstrap, topic)}
    assert folded == {b"k0": None} | {b"k%d" % key: b"19" for key in range(1, 10)}


def test_forced_compaction_of_an_empty_topic_does_nothing(
    kafka_bootstrap: str, new_topic: Callable[..., str]
) -> None:
    topic = new_topic("empty", config=COMPACTED)
    assert force_compaction(kafka_bootstrap, topic) == 0


def test_forced_compaction_refuses_a_topic_that_is_not_compacted(
    kafka_bootstrap: str, new_topic: Callable[..., str]
) -> None:
    with pytest.raises(ValueError, match="not compacted"):
        force_compaction(kafka_bootstrap, new_topic("plain"))


def test_valkey_runs_functions(valkey_url: str) -> None:
    library, key = unique("library").replace("-", "_"), unique("key")
    code = (
        f"#!lua name={library}\n"
        f"redis.register_function('{library}', function(keys, args)\n"
        "  return redis.call('INCRBY', keys[1], args[1])\n"
        "end)"
    )
    with redis.Redis.from_url(valkey_url) as client:
        client.function_load(code)
        assert client.fcall(library, 1, key, "5") == 5
        assert client.fcall(library, 1, key, "2") == 7
        client.function_delete(library)
        client.delete(key)


@pytest.mark.parametrize("end", [Valkey.stop, Valkey.kill], ids=["stop", "kill"])
def test_valkey_keeps_its_append_only_file_over_a_restart(
    own_valkey: Valkey, end: Callable[[Valkey], None]
) -> None:
    with redis.Redis.from_url(own_valkey.url, retry=None) as client:
        client.set("kept", "yes")
        end(own_valkey)
        with pytest.raises(redis.ConnectionError):
            client.ping()
        own_valkey.start()
        assert client.get("kept") == b"yes"


def test_valkey_without_a_file_restarts_empty(tmp_path: Path) -> None:
    with Valkey(tmp_path / "valkey") as valkey, redis.Redis.from_url(valkey.url) as client:
        client.set("lost", "yes")
        valkey.kill()
        valkey.start()
        assert client.get("lost") is None


def test_valkey_on_a_taken_port_is_reported_with_the_log(
    tmp_path: Path, own_valkey: Valkey
) -> None:
    second = Valkey(tmp_path / "second", port=own_valkey.port)
    with pytest.raises(ChildDied, match=r"valkey exited 1(.|\n)*Address already in use"):
        second.start()


def test_kafka_on_a_taken_port_is_reported_with_the_log(tmp_path: Path, own_kafka: Kafka) -> None:
    second = Kafka(tmp_path / "second", port=own_kafka.port)
    with pytest.raises(ChildDied, match=r"kafka exited 1(.|\n)*Address already in use"):
        second.start()


def test_valkey_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    code = (
        "import time; from pathlib import Path; from deploy.local.valkey import Valkey;"
        f"valkey = Valkey(Path({str(tmp_path)!r})).start();"
        "print(valkey.port, flush=True); time.sleep(60)"
    )
    here = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=here) as owner:
        assert owner.stdout is not None
        port = int(owner.stdout.readline())
        assert listens(port)
        owner.kill()
    eventually(lambda: not listens(port), 5, what="the end of Valkey")
