"""A whole local cluster under a load: rates, CPU of each process, memory, followers.

Everything shares the machine, the load generator included. CPU per item, user and system time of
all processes, is far less noisy than a rate.
"""

import os
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import redis

from deploy.local.clients import Auditor, Pools, Switch
from deploy.local.cluster import Cluster
from deploy.local.kafka import quiet_admin
from deploy.local.replay import percentile
from deploy.local.waiting import eventually
from services.runtime.placement import end_offsets
from services.runtime.topics import EVENT_TOPICS, partition_counts

TENANT: Final = "bench"
POOL: Final = "load"


@dataclass
class Load:
    """What a load generator did. `last`: caller and number of one of the last bindings."""

    items: int = 0
    seconds: float = 0.0
    milliseconds: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    last: tuple[str, str] = ("", "")


class Stage:
    """A cluster with one exclusive pool of as many numbers as are asked for."""

    def __init__(
        self, folder: Path, numbers: int, environment: dict[str, str] | None = None
    ) -> None:
        self.cluster = Cluster(folder, environment=environment)
        self.cluster.wipe()
        self._numbers = numbers
        self.address = ""

    def __enter__(self) -> "Stage":
        self.cluster.start()
        self.address = self.cluster.addresses["binding"]
        self.pools = Pools(self.cluster.addresses["allocator"], TENANT)
        self.pools.create(POOL)
        for block in range(-(-self._numbers // 10_000)):
            self.pools.register(f"700{20_000_000 + block:08d}", POOL)
        return self

    def __exit__(self, *_: object) -> None:
        self.pools.close()
        self.cluster.stop()

    def measured(self, generate: Callable[[str], Load]) -> dict[str, Any]:
        """Runs a load; what it did, and what it took until all followers had it."""
        before, memory = self._cpu(), self.memory()
        load = generate(self.address)
        if not load.items:
            raise RuntimeError(f"nothing was done: {dict(load.errors)}")
        behind = self._behind(load)
        spent = {name: used - before[name] for name, used in self._cpu().items()}
        per_item = {n: round(s * 1000 / load.items, 3) for n, s in spent.items()}
        return {
            "items": load.items,
            "per_second": round(load.items / load.seconds),
            "errors": dict(load.errors),
            "milliseconds": {
                f"p{share * 100:g}": round(percentile(load.milliseconds, share), 1)
                for share in (0.5, 0.9, 0.99, 1.0)
            },
            "cpu_ms_per_item": per_item | {"all": round(sum(per_item.values()), 3)},
            "behind_seconds": behind,
            "cores": round(sum(spent.values()) / load.seconds, 2),
            "valkey_bytes_per_item": {
                service: round((now - memory[service]) / load.items)
                for service, now in self.memory().items()
            },
        }

    def _behind(self, load: Load) -> dict[str, float]:
        """How long after the last answer each follower has everything."""
        begun = time.perf_counter()
        found: dict[str, float] = {}

        def reached(name: str, condition: Callable[[], object]) -> None:
            eventually(condition, 300, what=name)
            found[name] = round(time.perf_counter() - begun, 2)

        caller, number = load.last
        with Switch(self.cluster.routers[0]) as switch:
            reached(
                "router", lambda: switch.call(caller, number).WhichOneof("decision") == "connect"
            )
        reached("allocator", lambda: self.pools.statistics(POOL).bound >= load.items)
        with Auditor(self.cluster.addresses["audit"]) as auditor:
            published = self._published()
            reached(
                "audit",
                lambda: int(auditor.checkpoint().checkpoint.splitlines()[1]) >= published,
            )
        return found

    def memory(self) -> dict[str, int]:
        """Octets that Valkey holds for each service, by a sample of each kind of key; the outbox
        left out."""
        sizes: dict[str, list[bytes]] = {}
        with redis.Redis.from_url(self.cluster.brokers.valkey.url) as store:
            keys = list(store.scan_iter(count=10_000))
            for key in keys:
                sizes.setdefault(_kind(key), []).append(key)
            total = Counter[str]()
            for kind, found in sizes.items():
                if kind.endswith(":outbox"):
                    continue
                step = max(1, len(found) // 200)
                sample = [int(store.memory_usage(each, samples=0) or 0) for each in found[::step]]
                total[kind.partition(":")[0]] += round(sum(sample) / len(sample) * len(found))
        return {service: total[service] for service in ("binding", "allocator")}

    def _published(self) -> int:
        """How many records the event topics hold."""
        admin = quiet_admin(self.cluster.brokers.kafka.bootstrap)
        counts = partition_counts(admin, EVENT_TOPICS)
        places = [(name, p) for name, count in counts.items() for p in range(count)]
        return sum(end_offsets(admin, places).values())

    def _cpu(self) -> dict[str, float]:
        """CPU seconds that each process and its children have used."""
        used = {child.name: tree_seconds(child.pid) for child in self.cluster.children}
        used["load generator"] = time.process_time()
        return used


def _kind(key: bytes) -> str:
    """`<service>:<what it is>` of a key."""
    found = re.match(rb"(\w+):\{[^}]*\}:([a-z]+(?::[a-z]+)?)", key)
    return b":".join(found.groups()).decode() if found else key.decode(errors="replace")


def tree_seconds(root: int) -> float:
    """CPU seconds of a process and all that descend from it, whatever their sessions."""
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        parents[int(entry.name)] = int(fields[1])
        ticks[int(entry.name)] = int(fields[11]) + int(fields[12])

    def descends(pid: int) -> bool:
        while pid != root and pid in parents:
            pid = parents[pid]
        return pid == root

    return sum(t for pid, t in ticks.items() if descends(pid)) / os.sysconf("SC_CLK_TCK")
