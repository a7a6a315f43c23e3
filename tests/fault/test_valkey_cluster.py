"""Both cells on a cluster of Valkeys, under writers: a slot that moves, a node that is killed."""

from collections.abc import Iterator

import pytest

from deploy.local.valkeycluster import ValkeyCluster
from tests import scene
from tests.fault.writers import Writers
from tests.scene import Scene

BINDINGS = ("binding", "binding-2")
META = "binding:{c0}:meta"  # and allocator's cell of that name: one slot, one node
WAITS = {"STORE_HEALING", "STORE_UNAVAILABLE", "LOG_UNAVAILABLE", "NEIGHBOUR_UNAVAILABLE"}


@pytest.fixture(scope="module")
def valkeys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyCluster]:
    with ValkeyCluster(tmp_path_factory.mktemp("valkeys")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, valkeys: ValkeyCluster) -> Iterator[Scene]:
    """Two binding processes on one cell, of which either may own it."""
    urls = {f"{service}_REDIS_URL": valkeys.url for service in ("ALLOCATOR", "BINDING")}
    folder = tmp_path_factory.mktemp("cluster")
    with scene.playing(
        folder, routers=2, bindings=2, environment=scene.QUICK_EXPIRY | urls
    ) as playing:
        playing.pool("rides")
        yield playing


def test_a_slot_that_moves_to_an_empty_node_is_healed_there(
    stage: Scene, valkeys: ValkeyCluster
) -> None:
    writers = Writers(stage, BINDINGS)
    with writers.writing():
        for node in valkeys.nodes[::-1]:
            writers.go_on()
            valkeys.move(META, node)
        writers.go_on()
    assert set(writers.refused()) <= WAITS
    writers.nothing_is_missing()


def test_the_node_of_the_cells_is_killed_and_comes_back_empty(
    stage: Scene, valkeys: ValkeyCluster
) -> None:
    valkeys.move(META, valkeys.nodes[1])
    writers = Writers(stage, BINDINGS)
    with writers.writing():
        for _ in range(2):
            writers.go_on()
            valkeys.nodes[1].kill()
            valkeys.nodes[1].start()
        writers.go_on()
    assert set(writers.refused()) <= WAITS
    writers.nothing_is_missing()
