"""One cluster with two router pods for all end-to-end tests of a process."""

from collections.abc import Iterator

import pytest

from deploy.local.cluster import Cluster
from tests import scene
from tests.scene import Scene


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The whole system; it is shared, so play on a scene of your own."""
    folder = tmp_path_factory.mktemp("cluster")
    with Cluster(folder, routers=2, environment=scene.QUICK_EXPIRY) as running:
        yield running


@pytest.fixture
def stage(cluster: Cluster) -> Iterator[Scene]:
    """A tenant with its pools, platform, switches and auditor."""
    with scene.on(cluster) as playing:
        yield playing
