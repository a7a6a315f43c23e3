"""The whole system on loopback: both brokers and the four services as processes.

Everything lives under one data folder: `kafka/`, `valkey/`, `keys/`, one folder per service, and
`addresses.json` for clients. Invariant: whatever a cluster started, it stops, on every way out.
"""

import json
import os
import shutil
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from deploy.local.brokers import Brokers
from deploy.local.kafka import quiet_admin
from deploy.local.places import HOST, ROOT, free_port
from deploy.local.process import Child
from services.runtime import topics
from services.runtime.keyring import EvidenceKeys

_READY_SECONDS: Final = 60.0
ORIGIN: Final = "axbridge.invalid/log/local"


@dataclass(frozen=True)
class Process:
    """One process of a service: how it is started and where it answers."""

    name: str  # unique in the cluster, e.g. `router-2`
    module: str
    prefix: str  # of its environment names
    env: Mapping[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()  # KAFKA, REDIS


class Cluster:
    """A context in which the system runs; ports are free ones unless `ports` names them.

    `environment` is added to every service's, `environments` by name to one process's (`valkey`
    too).
    """

    def __init__(
        self,
        folder: Path,
        *,
        routers: int = 1,
        workers: int = 1,
        bindings: int = 1,
        partitions: int = 2,  # each costs the broker a request per batch; one machine needs no more
        ports: Mapping[str, int] | None = None,
        appendonly: bool = True,
        environment: Mapping[str, str] | None = None,
        environments: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        self.folder = folder
        self._ports = dict(ports or {})
        self._partitions = partitions
        self._environment = dict(environment or {})
        self._environments = dict(environments or {})
        self._announced = False
        self.brokers = Brokers(
            folder,
            kafka_port=self._ports.get("kafka"),
            valkey_port=self._ports.get("valkey"),
            appendonly=appendonly,
            valkey_env=self._environments.get("valkey"),
        )
        self.keys = folder / "keys"
        self.log = folder / "audit" / "log"
        plans = self._plans(routers, workers, bindings)
        self.addresses: dict[str, str] = {
            plan.name: f"{HOST}:{self._ports.get(plan.name) or free_port()}" for plan in plans
        }
        self.health: dict[str, str] = {plan.name: f"{HOST}:{free_port()}" for plan in plans}
        self.services: dict[str, Child] = {plan.name: self._child(plan) for plan in plans}

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def children(self) -> tuple[Child, ...]:
        """Brokers and services."""
        return (*self.brokers.children, *self.services.values())

    @property
    def routers(self) -> list[str]:
        """The addresses of the router pods."""
        return [a for name, a in self.addresses.items() if name.startswith("router-")]

    @property
    def vkey(self) -> str:
        """The key that checks the audit log."""
        return (self.log / "vkey").read_text().strip()

    def start(self) -> Self:
        """Starts everything and returns once every process says it is ready.

        Raises:
            FolderInUse, ChildDied, ChildNotReady: nothing is left running.
        """
        try:
            self.brokers.start()
            EvidenceKeys.generate(self.keys / "evidence")
            admin = quiet_admin(self.brokers.kafka.bootstrap)
            topics.ensure(admin, partitions=self._partitions)
            for child in self.services.values():
                child.start()
            for name in self.services:
                self.await_ready(name)
            self._write_addresses()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stops services first, so that they can drain, then the brokers."""
        if self._announced:  # else the file is another cluster's, whose folder we were refused
            (self.folder / "addresses.json").unlink(missing_ok=True)
            self._announced = False
        running = list(self.services.values())
        for child in running:
            if child.running:
                child.signal(signal.SIGTERM)
        for child in running:
            child.stop()
        self.brokers.stop()

    def await_ready(self, name: str) -> None:
        """Returns once the process says that it can do its job."""
        url = f"http://{self.health[name]}/readyz"
        self.services[name].await_ready(lambda: _answers(url), _READY_SECONDS)

    def wipe(self) -> Self:
        """Removes what an earlier cluster left in the folder: a demo starts from nothing.

        Raises:
            FolderInUse: a cluster runs on it; nothing was removed.
        """
        self.brokers.hold()
        for entry in self.folder.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            elif entry != self.brokers.lock:
                entry.unlink()
        return self

    def _write_addresses(self) -> None:
        self._announced = True
        known = {"pid": os.getpid(), **self.brokers.environment(), **self.addresses}
        new = self.folder / "addresses.json.new"
        new.write_text(json.dumps(known, indent=2) + "\n")
        new.replace(self.folder / "addresses.json")  # whole, or not there

    def _plans(self, routers: int, workers: int, bindings: int) -> list[Process]:
        public = str(self.keys / "evidence" / "evidence-public.pem")
        stored = ("KAFKA", "REDIS")
        plans = [Process("allocator", "services.allocator", "ALLOCATOR", needs=stored)]
        plans += [
            Process(
                "binding" if number == 1 else f"binding-{number}",
                "services.binding",
                "BINDING",
                {"EVIDENCE_PUBLIC_KEY": public, "ALLOCATOR_TARGET": "@allocator"},
                stored,
            )
            for number in range(1, bindings + 1)
        ]
        plans += [
            Process(
                f"router-{number}",
                "services.router",
                "ROUTER",
                {
                    "EVIDENCE_PUBLIC_KEY": public,
                    "DATA_DIR": str(self.folder / f"router-{number}"),
                    "ID": f"r{number}",
                    "WORKERS": str(workers),
                    "SCAN_MISSES_PER_MINUTE": "0",  # who waits for a change here asks very often
                },
                ("KAFKA",),
            )
            for number in range(1, routers + 1)
        ]
        records = {
            "DATA_DIR": str(self.folder / "records"),
            "RECORDS_HEALTH_LISTEN": "#records",
            "RECORDS_LISTEN": "@records",
        }
        plans.append(Process("records", "services.router.records", "ROUTER", records, ("KAFKA",)))
        audit = {
            "LOG_DIR": str(self.log.parent),
            "INDEX_PATH": str(self.folder / "audit" / "index.sqlite"),
            "ORIGIN": ORIGIN,
        }
        plans.append(Process("sequencer", "services.audit.sequencer", "AUDIT", audit, ("KAFKA",)))
        plans.append(Process("audit", "services.audit", "AUDIT", audit, ("KAFKA",)))
        plans.append(Process("tiles", "services.audit.tileserver", "AUDIT", audit))
        return plans

    def _resolved(self, value: str) -> str:
        """`@name` is where a process answers gRPC, `#name` where it says that it is healthy."""
        if value.startswith("@"):
            return self.addresses[value[1:]]
        return self.health[value[1:]] if value.startswith("#") else value

    def _child(self, plan: Process) -> Child:
        broker = self.brokers.environment()
        env = {
            "LISTEN": self.addresses[plan.name],
            "HEALTH_LISTEN": self.health[plan.name],
            "KEYRING_DIR": str(self.keys / "ring"),
            **{name: self._resolved(value) for name, value in plan.env.items()},
        }
        if "KAFKA" in plan.needs:
            env["KAFKA_BOOTSTRAP"] = broker["KAFKA_BOOTSTRAP"]
        if "REDIS" in plan.needs:
            env["REDIS_URL"] = broker["REDIS_URL"]
        named = {f"{plan.prefix}_{name}": value for name, value in env.items()}
        path = os.pathsep.join((str(ROOT), str(ROOT / "gen")))
        return Child(
            plan.name,
            [sys.executable, "-m", plan.module],
            log=self.folder / "logs" / f"{plan.name}.log",
            env={
                **named,
                **self._environment,
                **self._environments.get(plan.name, {}),
                "PYTHONPATH": path,
            },
            cwd=ROOT,
        )


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1.0) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
