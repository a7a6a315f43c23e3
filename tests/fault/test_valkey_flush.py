"""FLUSHALL under writers: they are told to wait, then go on; nothing acknowledged is missing."""

from collections.abc import Iterator

import pytest
import redis

from deploy.local.waiting import eventually
from tests import scene
from tests.fault.writers import Writers
from tests.scene import Scene

BINDINGS = ("binding", "binding-2")


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Two binding processes on one cell: either may own it."""
    folder = tmp_path_factory.mktemp("cluster")
    with scene.playing(folder, routers=2, bindings=2) as playing:
        playing.pool("rides")
        yield playing


@pytest.mark.parametrize("again_while_healing", [False, True])
def test_nothing_acknowledged_is_missing(stage: Scene, again_while_healing: bool) -> None:
    writers = Writers(stage, BINDINGS)
    with writers.writing(), redis.Redis.from_url(stage.cluster.brokers.valkey.url) as store:
        for _ in range(2):
            writers.go_on()
            store.flushall()
            if again_while_healing:
                eventually(
                    lambda: store.exists("binding:{c0}:meta"), scene.PATIENCE, every_seconds=0.001
                )
                store.flushall()
        writers.go_on()
    # Who asks meanwhile is told STORE_HEALING; whose write was lost on its way, LOG_UNAVAILABLE.
    assert writers.refused()
    assert set(writers.refused()) <= {"STORE_HEALING", "LOG_UNAVAILABLE", "NEIGHBOUR_UNAVAILABLE"}
    writers.nothing_is_missing()
