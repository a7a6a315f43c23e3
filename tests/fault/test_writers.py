"""Processes and brokers killed under writers: each refusal is followed by the promised effect."""

from collections.abc import Iterator

import pytest
import redis

from tests import scene
from tests.fault.writers import Writers
from tests.scene import Scene

pytestmark = pytest.mark.timeout(300)  # starts many processes; for a loaded machine

BINDINGS = ("binding", "binding-2")


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Two binding processes on one cell: either may own it."""
    folder = tmp_path_factory.mktemp("cluster")
    with scene.playing(folder, routers=2, bindings=2) as playing:
        playing.pool("rides")
        yield playing


@pytest.mark.parametrize("killed", ["binding", "binding-2", "allocator", "sequencer"])
def test_a_service_is_killed(stage: Scene, killed: str) -> None:
    writers = Writers(stage, BINDINGS)
    with writers.writing():
        writers.go_on()
        stage.cluster.services[killed].kill()
        if killed.startswith("binding"):
            writers.go_on()  # the other owns the cell once the lease has run out
        stage.cluster.services[killed].start()
        stage.cluster.await_ready(killed)
        writers.go_on()
    writers.nothing_is_missing()


@pytest.mark.parametrize("killed", ["kafka", "valkey"])
def test_a_broker_is_killed(stage: Scene, killed: str) -> None:
    brokers = stage.cluster.brokers
    broker = brokers.kafka if killed == "kafka" else brokers.valkey
    writers = Writers(stage, BINDINGS)
    with writers.writing():
        for _ in range(2):
            writers.go_on()
            broker.kill()
            broker.start()
        writers.go_on()
    writers.nothing_is_missing()


@pytest.mark.parametrize("killed", [("binding",), BINDINGS, ("kafka", "binding-2")])
def test_the_store_is_lost_with_those_who_use_it(stage: Scene, killed: tuple[str, ...]) -> None:
    brokers = stage.cluster.brokers
    writers = Writers(stage, BINDINGS)
    with writers.writing(), redis.Redis.from_url(brokers.valkey.url) as store:
        for _ in range(3):
            writers.go_on()
            for name in killed:
                (brokers.kafka if name == "kafka" else stage.cluster.services[name]).kill()
            store.flushall()
            for name in killed:
                (brokers.kafka if name == "kafka" else stage.cluster.services[name]).start()
        writers.go_on()
    writers.nothing_is_missing()
