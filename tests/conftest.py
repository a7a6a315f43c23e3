"""Fixtures every tier may use: the addresses of real brokers, and fresh topics.

KAFKA_BOOTSTRAP and REDIS_URL name brokers that run already; without them the run starts its own
(`brokers.py`). A broker that is missing is a failure, never a skip.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from confluent_kafka.cimpl import NewTopic

from deploy.local.kafka import quiet_admin
from tests.brokers import Broker, SharedBrokers, ask
from tests.factories import unique

NewTopicName = Callable[..., str]
_OWNER = pytest.StashKey[SharedBrokers]()


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        config.stash[_OWNER] = SharedBrokers()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tells an xdist worker where to ask for brokers."""
    node.workerinput["brokers"] = node.config.stash[_OWNER].serve()


def pytest_unconfigure(config: pytest.Config) -> None:
    if _OWNER in config.stash:
        config.stash[_OWNER].stop()


def _address(config: pytest.Config, broker: Broker) -> str:
    workerinput = getattr(config, "workerinput", None)
    if workerinput is not None:
        return ask(workerinput["brokers"], broker)
    return config.stash[_OWNER].address(broker)


@pytest.fixture(scope="session")
def kafka_bootstrap(pytestconfig: pytest.Config) -> str:
    """The address of a real Kafka; it is shared, so use fresh topics and groups."""
    return os.environ.get("KAFKA_BOOTSTRAP") or _address(pytestconfig, "kafka")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests marked `both_stores` run on one Valkey and on a cluster of them."""
    marked = metafunc.definition.get_closest_marker("both_stores") is not None
    if marked and "valkey_url" in metafunc.fixturenames:
        metafunc.parametrize("valkey_url", ["one", "cluster"], indirect=True)


@pytest.fixture(scope="session")
def valkey_url(request: pytest.FixtureRequest, pytestconfig: pytest.Config) -> str:
    """The URL of a real Valkey; it is shared, so use fresh key prefixes and never flush it."""
    if getattr(request, "param", "one") == "cluster":
        return str(request.getfixturevalue("cluster_url"))
    return os.environ.get("REDIS_URL") or _address(pytestconfig, "valkey")


@pytest.fixture(scope="session")
def cluster_url(pytestconfig: pytest.Config) -> str:
    """The URL of a real Valkey cluster; shared like the other."""
    return _address(pytestconfig, "cluster")


@pytest.fixture
def new_topic(kafka_bootstrap: str) -> Iterator[NewTopicName]:
    """Makes fresh topics: `new_topic("bindings", partitions=4, config={...})` returns the name."""
    admin = quiet_admin(kafka_bootstrap)
    made: list[str] = []

    def make(
        prefix: str = "test", *, partitions: int = 1, config: Mapping[str, str] | None = None
    ) -> str:
        name = unique(prefix)
        topic = NewTopic(name, num_partitions=partitions, config=dict(config or {}))
        admin.create_topics([topic])[name].result(10)
        made.append(name)
        return name

    yield make
    if made:
        for deleted in admin.delete_topics(made).values():
            deleted.result(10)
