"""Fresh event topics with a sequencer over them, as a process that may be killed."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from deploy.local.kafka import quiet_admin
from deploy.local.waiting import eventually
from services.runtime.topics import Topic, ensure
from tests.factories import unique
from tests.sequencer_process import topics_of


@dataclass(frozen=True)
class Source:
    """Topics of one test and the log that is made of them."""

    bootstrap: str
    root: Path
    bindings: str
    calls: str
    numbers: str

    @classmethod
    @contextmanager
    def made(cls, bootstrap: str, root: Path, partitions: int) -> "Iterator[Source]":
        source = cls(bootstrap, root, unique("bindings"), unique("calls"), unique("numbers"))
        admin = quiet_admin(bootstrap)
        ensure(admin, partitions=partitions, topics=source.topics)
        yield source
        both = [name for topic in source.topics for name in (topic.name, topic.parked)]
        for deleted in admin.delete_topics(both).values():
            deleted.result(10)

    def remake(self, name: str, partitions: int) -> None:
        """Deletes one of the topics and makes it again."""
        admin = quiet_admin(self.bootstrap)
        admin.delete_topics([name])[name].result(10)
        until(lambda: name not in admin.list_topics(timeout=10).topics)
        until(lambda: self._created(admin, name, partitions))

    def _created(self, admin: AdminClient, name: str, partitions: int) -> bool:
        """False while the deletion is not everywhere yet."""
        try:
            admin.create_topics([NewTopic(name, num_partitions=partitions)])[name].result(10)
        except KafkaException:
            return False
        return True

    @property
    def arguments(self) -> list[str]:
        return [
            f"binding.bindings.v1={self.bindings}",
            f"router.calls.v1={self.calls}",
            f"allocator.numbers.v1={self.numbers}",
        ]

    @property
    def topics(self) -> list[Topic]:
        return topics_of(self.arguments)

    @property
    def served(self) -> Path:
        return self.root / "log"

    @property
    def vkey(self) -> str:
        return (self.served / "vkey").read_text().strip()

    @contextmanager
    def sequencer(self, **settings: str) -> Iterator[subprocess.Popen[bytes]]:
        environment = {"AUDIT_KAFKA_BOOTSTRAP": self.bootstrap, "AUDIT_LOG_DIR": str(self.root)}
        environment |= settings
        command = ["tests.sequencer_process", *self.arguments]
        with python(command, environment) as process:
            yield process


@contextmanager
def python(module: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """`python -m` with arguments; killed at the end if it still runs."""
    path = {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", *module]
    with subprocess.Popen(
        command, env=os.environ | environment | path, stderr=subprocess.DEVNULL
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def until(condition: Callable[[], object], seconds: float = 40) -> None:
    eventually(condition, seconds)
