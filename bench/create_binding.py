"""CreateBinding under load: a whole local cluster, 64 callers, and how far the followers are.

Everything shares the machine, the load generator included. Reports rates and latencies, the share
of a core that each process took, and how long after the last answer each follower had everything.
"""

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import grpc
from axbridge.binding.v1 import binding_service_pb2_grpc

from deploy.local.clients import Auditor, Pools, Switch, channel_options, create_request
from deploy.local.cluster import Cluster
from deploy.local.kafka import quiet_admin
from deploy.local.replay import percentile
from deploy.local.trips import mobile
from deploy.local.waiting import eventually
from services.runtime.placement import end_offsets
from services.runtime.status import reason_of
from services.runtime.topics import EVENT_TOPICS, partition_counts

_TENANT: Final = "bench"
_BLOCKS: Final = 12  # 120,000 numbers: 2,000/s for a minute


def run(folder: Path, seconds: float, callers: int, shared: bool = False) -> dict[str, Any]:
    """Runs the load; returns what was measured."""
    begun = time.monotonic()
    with Cluster(folder).wipe() as cluster:
        started = time.monotonic() - begun
        with Pools(cluster.addresses["allocator"], _TENANT) as pools:
            pools.create("load", shared=shared)
            for block in range(_BLOCKS):
                pools.register(f"700{20_000_000 + block:08d}", "load")
            before = _cpu(cluster)
            load = asyncio.run(_load(cluster.addresses["binding"], seconds, callers))
            spent = {name: used - before[name] for name, used in _cpu(cluster).items()}
            behind = _followers(cluster, pools, load)
    created = len(load["ms"])
    return {
        "start_seconds": round(started, 1),
        "created": created,
        "per_second": round(created / load["seconds"]),
        "errors": dict(load["errors"]),
        "create_ms": {
            f"p{share * 100:g}": round(percentile(load["ms"], share), 1)
            for share in (0.5, 0.9, 0.99, 1.0)
        },
        "behind_seconds": behind,
        "cpu_ms_per_create": {
            name: round(used * 1000 / max(1, created), 3) for name, used in spent.items()
        },
    }


async def _load(address: str, seconds: float, callers: int) -> dict[str, Any]:
    latencies: list[float] = []
    errors: Counter[str] = Counter()
    last: list[tuple[str, str]] = []
    begun = time.perf_counter()
    async with grpc.aio.insecure_channel(address, channel_options("binding")) as channel:
        stub = binding_service_pb2_grpc.BindingServiceStub(channel)

        async def caller(place: int) -> None:
            number = 0
            while time.perf_counter() - begun < seconds:
                number += 1
                a = mobile(f"a/{place}/{number}")
                request = create_request(
                    _TENANT, "load", a, mobile(f"b/{place}/{number}"), f"o-{place}-{number}"
                )
                asked = time.perf_counter()
                try:
                    answer = await stub.CreateBinding(request, timeout=30)
                except grpc.aio.AioRpcError as error:
                    errors[reason_of(error) or error.code().name] += 1
                    continue
                latencies.append((time.perf_counter() - asked) * 1000)
                last[:] = [(a, answer.number.removeprefix("numbers/"))]

        await asyncio.gather(*(caller(place) for place in range(callers)))
    took = time.perf_counter() - begun
    return {
        "ms": latencies,
        "errors": errors,
        "seconds": took,
        "last": last,
        "cpu": time.process_time(),
    }


def _followers(cluster: Cluster, pools: Pools, load: dict[str, Any]) -> dict[str, float]:
    """How long after the last answer each follower has everything."""
    begun = time.perf_counter()
    [(caller, number)] = load["last"]
    found: dict[str, float] = {}

    def reached(name: str, condition: Callable[[], object]) -> None:
        eventually(condition, 120, what=name)
        found[name] = round(time.perf_counter() - begun, 2)

    with Switch(cluster.routers[0]) as switch:
        reached("router", lambda: switch.call(caller, number).WhichOneof("decision") == "connect")
    reached("allocator", lambda: pools.statistics("load").bound >= len(load["ms"]))
    with Auditor(cluster.addresses["audit"]) as auditor:
        published = _published(cluster.brokers.kafka.bootstrap)
        reached("audit", lambda: _leaves(auditor) >= published)
    return found


def _published(bootstrap: str) -> int:
    """How many records the event topics hold."""
    admin = quiet_admin(bootstrap)
    counts = partition_counts(admin, EVENT_TOPICS)
    places = [(name, p) for name, count in counts.items() for p in range(count)]
    return sum(end_offsets(admin, places).values())


def _leaves(auditor: Auditor) -> int:
    return int(auditor.checkpoint().checkpoint.splitlines()[1])


def _cpu(cluster: Cluster) -> dict[str, float]:
    """CPU seconds that each process and its children have used."""
    used = {child.name: _group_seconds(child.pid) for child in cluster.children}
    used["load generator"] = time.process_time()
    return used


def _group_seconds(group: int) -> float:
    tick = os.sysconf("SC_CLK_TCK")
    total = 0
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        if int(fields[2]) == group:  # its process group
            total += int(fields[11]) + int(fields[12])
    return total / tick
