"""Clusters to do harm to: one per test module, so that no harm meets another."""

from collections.abc import Iterator

import pytest

from tests import scene
from tests.scene import Scene


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A cluster with two routers, and a tenant with an exclusive pool `rides`."""
    with scene.playing(tmp_path_factory.mktemp("cluster"), routers=2) as playing:
        playing.pool("rides")
        yield playing
