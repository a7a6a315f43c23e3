"""One Kafka broker (KRaft, broker and controller in one process) on loopback.

Stop it, kill it and start it again on the same folder: ports and data stay. Kafka does not fsync,
so a killed process loses nothing that was acknowledged, a lost host may. Topics are never
created by accident; everything has one replica.
"""

import base64
import logging
import shutil
import uuid
from pathlib import Path
from types import TracebackType
from typing import Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from deploy.local.jars import KafkaInstall, prepare
from deploy.local.places import HOST, free_port, listens
from deploy.local.process import Child

_DEADLINE_SECONDS = 60.0  # starts in 1 s; the rest is for a busy machine and for log recovery
_FLAGS = (
    "-Xmx384m",
    "-XX:TieredStopAtLevel=1",  # half the CPU in the first minutes, and most brokers here live less
    "-XX:+UseSerialGC",  # on two cores it starts faster than G1 and leaves a core to others
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
    "-Xlog:disable",  # a cache recorded on another processor is no news, the start is just slower
    "-Xlog:all=error:stderr",
    "--sun-misc-unsafe-memory-access=allow",
)
SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "auto.create.topics.enable": "false",
    "num.partitions": "1",
    "default.replication.factor": "1",
    "offsets.topic.num.partitions": "1",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    # A follower that was killed holds its partitions so long; by default, and at least, 45 s.
    "group.consumer.session.timeout.ms": "6000",
    "group.consumer.min.session.timeout.ms": "6000",
    "group.consumer.heartbeat.interval.ms": "1500",
    "group.consumer.min.heartbeat.interval.ms": "1500",
    # After a kill the broker is let in again only when its old session has run out: 9 s by default.
    "broker.session.timeout.ms": "2000",
    "broker.heartbeat.interval.ms": "400",
    # How soon forced compaction is seen (`compaction.py`); the default is 15 s.
    "log.cleaner.backoff.ms": "200",
    # 24 bytes a key: 16 MiB hold 600,000 keys a pass. The default, 128 MiB, is a third of the heap.
    "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
    "log.segment.delete.delay.ms": "1000",
}


class Kafka:
    """A broker with its data in `folder`. Topics, groups and offsets outlive `stop` and `kill`."""

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        install: KafkaInstall | None = None,
        flags: tuple[str, ...] = (),
    ) -> None:
        """Prepares Kafka if this machine has never done so (`jars.prepare`), and starts nothing."""
        self.folder = folder
        self.port = port or free_port()
        self.controller_port = free_port()
        self.bootstrap = f"{HOST}:{self.port}"
        self._install = install or prepare(_train)
        aot = self._install.aot_cache
        cache = (f"-XX:AOTCache={aot}",) if aot.exists() else ()
        settings = folder / "server.properties"
        command = self._install.java("kafka.Kafka", str(settings), flags=(*_FLAGS, *cache, *flags))
        self.child = Child("kafka", command, log=folder / "kafka.log", env={"LC_ALL": "C"})

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> Self:
        """Starts the broker and returns once it answers as a member of its own cluster.

        Raises:
            ChildDied: it ended at once, most often because a port is taken.
            ChildNotReady: it did not answer in time; it has been killed again.
        """
        cluster = self._format()
        self.child.start()
        try:
            self.child.await_ready(lambda: listens(self.port), _DEADLINE_SECONDS)
            admin = quiet_admin(self.bootstrap)
            self.child.await_ready(lambda: _unfenced(admin, cluster), _DEADLINE_SECONDS)
        except BaseException:
            self.kill()
            raise
        return self

    def stop(self) -> None:
        """Ends the broker cleanly; the next start finds everything."""
        self.child.stop()

    def kill(self) -> None:
        """Ends the broker with -9, as a crash would; the next start recovers the log."""
        self.child.kill()

    def _format(self) -> str:
        """Writes the settings, and on the first start the storage that Kafka's formatter would.

        Returns the id of the cluster. meta.properties comes last: without it a start was cut off
        before Kafka ever ran, and the folder is made anew.
        """
        data = self.folder / "data"
        settings = SETTINGS | {
            "controller.quorum.voters": f"1@{HOST}:{self.controller_port}",
            "listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://{HOST}:{self.controller_port}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap}",
            "log.dirs": str(data),
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        _write_properties(self.folder / "server.properties", settings)
        identity_file = data / "meta.properties"
        if not identity_file.exists():
            shutil.rmtree(data, ignore_errors=True)
            shutil.copytree(self._install.template, data)
            identity = {
                "version": "1",
                "cluster.id": _kafka_uuid(),
                "node.id": "1",
                "directory.id": _kafka_uuid(),
            }
            _write_properties(identity_file, identity)
        lines = identity_file.read_text(encoding="utf-8").splitlines()
        return next(line for line in lines if line.startswith("cluster.id=")).split("=", 1)[1]


def quiet_admin(bootstrap: str) -> AdminClient:
    """An admin client that tries again quickly and does not write of each failed try."""
    silent = logging.getLogger("deploy.local.librdkafka")
    silent.addHandler(logging.NullHandler())
    silent.propagate = False
    settings: dict[str, str | int | float] = {
        "bootstrap.servers": bootstrap,
        "reconnect.backoff.ms": 20,
        "reconnect.backoff.max.ms": 100,
    }
    return AdminClient(settings, logger=silent)


def _unfenced(admin: AdminClient, cluster: str) -> bool:
    """Whether the broker serves. Another one on a taken port, with ours about to die, does not."""
    try:
        found = admin.list_topics(timeout=1.0)
    except KafkaException:  # it listens before it has joined its own cluster
        return False
    return bool(found.brokers) and found.cluster_id == cluster


def _kafka_uuid() -> str:
    """A random id as Kafka writes it; it refuses those that begin with a dash."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):
            return text


def _write_properties(path: Path, values: dict[str, str]) -> None:
    written = path.with_name(path.name + ".new")  # renamed when whole: a cut-off write is no file
    text = "".join(f"{key}={value}\n" for key, value in values.items())
    written.write_text(text, encoding="utf-8")
    written.rename(path)


def _train(install: KafkaInstall) -> None:
    """Starts and stops a broker once while the JVM records what it loaded (JEP 514)."""
    record = f"-XX:AOTCacheOutput={install.aot_cache}"
    kafka = Kafka(install.folder / "training", install=install, flags=(record,))
    kafka.start()
    kafka.child.stop(grace_seconds=60.0)  # the recording is written at the end, in about 5 s
