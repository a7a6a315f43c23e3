"""The brokers of a test run in containers, for machines where a Docker engine answers.

Used only with AXBRIDGE_TESTCONTAINERS=1. The settings are those of `deploy.local`, so a test sees
the same broker either way.
"""

from collections.abc import Callable
from typing import Literal

from confluent_kafka import KafkaException
from testcontainers.core.container import DockerContainer

from deploy.local.jars import KAFKA_VERSION
from deploy.local.kafka import SETTINGS, quiet_admin
from deploy.local.places import HOST, free_port, listens
from deploy.local.waiting import eventually

_DEADLINE_SECONDS = 60.0
_CONTROLLER_PORT = 9093


def start(broker: Literal["kafka", "valkey"]) -> tuple[str, Callable[[], None]]:
    """Starts a broker, waits until it answers, and returns its address and how to stop it."""
    return _kafka() if broker == "kafka" else _valkey()


def _kafka() -> tuple[str, Callable[[], None]]:
    port = free_port()
    settings = SETTINGS | {
        "listeners": f"PLAINTEXT://:{port},CONTROLLER://:{_CONTROLLER_PORT}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{port}",
        "controller.quorum.voters": f"1@localhost:{_CONTROLLER_PORT}",
    }
    container = DockerContainer(f"apache/kafka:{KAFKA_VERSION}").with_bind_ports(port, port)
    for name, value in settings.items():
        container.with_env("KAFKA_" + name.upper().replace(".", "_"), value)
    container.start()
    admin = quiet_admin(f"{HOST}:{port}")

    def answers() -> bool:
        try:
            return bool(admin.list_topics(timeout=1.0).brokers)
        except KafkaException:
            return False

    eventually(answers, _DEADLINE_SECONDS, what="kafka container")
    return f"{HOST}:{port}", container.stop


def _valkey() -> tuple[str, Callable[[], None]]:
    port = free_port()
    container = DockerContainer("valkey/valkey:9.1").with_bind_ports(6379, port)
    container.start()
    eventually(lambda: listens(port), _DEADLINE_SECONDS, what="valkey container")
    return f"redis://{HOST}:{port}", container.stop
