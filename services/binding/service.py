"""Plugs binding together: the one place that knows every concrete class.

Refuses to decide anything. Invariant: what ends by itself ends the process, so that nothing is
served or relayed half.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, NamedTuple

from axbridge.binding.v1 import binding_service_pb2_grpc as pb_grpc
from confluent_kafka.admin import AdminClient

from services.binding import keeper, sweeper
from services.binding.clients import AllocatorNumbers
from services.binding.handlers import Handlers
from services.binding.readiness import Readiness
from services.binding.rebuild import BindingRebuild
from services.binding.records import Records
from services.binding.routekeys import RouteKeys
from services.binding.servicer import BindingServicer
from services.binding.settings import BindingSettings
from services.binding.store import LIBRARY, SERVICE, CellBindings
from services.binding.vault import KeyedTags, Vault
from services.runtime import topics
from services.runtime.cell import Cell
from services.runtime.clock import Clock, SystemClock
from services.runtime.ids import TimeOrderedIds
from services.runtime.keyring import EvidenceKeys, FileKeyRing
from services.runtime.metrics import Metrics
from services.runtime.owner import Owner
from services.runtime.sealing import EvidenceWriter, PurgeSealer
from services.runtime.server import AioServer, Options
from services.runtime.tasks import ended
from services.runtime.telemetry import HealthEndpoint

_TOPICS: Final = (
    topics.BINDING_BINDINGS,
    topics.BINDING_STATE,
    topics.BINDING_ROUTES,
    topics.BINDING_KEYS,
)


class Parts(NamedTuple):
    """What works on a cell, whether or not a server stands before it."""

    ring: FileKeyRing
    tags: KeyedTags
    keys: RouteKeys
    bindings: CellBindings
    rebuild: BindingRebuild


def cell_of(settings: BindingSettings, name: str = "") -> Cell:
    """The cell of that name, or the configured one."""
    return Cell(settings.redis_url.get_secret_value(), SERVICE, name or settings.cell, LIBRARY)


def parts_of(settings: BindingSettings, cell: Cell, clock: Clock) -> Parts:
    """Plugged together for a cell. Raises FailedPrecondition (TOPIC_MISSING)."""
    kafka, ring = settings.kafka_bootstrap, FileKeyRing(settings.keyring_dir)
    records = Records(topics.partition_counts(AdminClient({"bootstrap.servers": kafka}), _TOPICS))
    evidence = EvidenceWriter(EvidenceKeys.load_public(settings.evidence_public_key), ring)
    tags = KeyedTags(ring)
    keys = RouteKeys(cell, records, ring, clock, settings.route_wrapping)
    bindings = CellBindings(cell, records, Vault(PurgeSealer(ring), evidence), keys, clock)
    return Parts(ring, tags, keys, bindings, BindingRebuild(cell, bindings, records, tags, clock))


async def start(settings: BindingSettings) -> tuple[AioServer, int]:
    """A started binding and its port; `drain` ends all of it. Component tests start the same."""
    kafka, clock, metrics = settings.kafka_bootstrap, SystemClock(), Metrics(SERVICE)
    cell = cell_of(settings)
    ring, tags, keys, bindings, rebuild = parts_of(settings, cell, clock)
    numbers = AllocatorNumbers(settings.allocator_target)
    readiness = Readiness(cell)
    jobs = [make(bindings, clock, metrics).run for make in (sweeper.expiry, sweeper.forgetter)]
    jobs.append(keeper.of_cell(keys, ring, clock, kafka, cell).run)
    owner = Owner(cell, kafka, rebuild, jobs=jobs, metrics=metrics)
    server = AioServer(Options.of(settings), metrics, lambda: readiness.ready)
    health = HealthEndpoint(settings.health_listen, metrics.registry, server.is_ready)
    shortest = settings.minimum_life_seconds * 1000
    handlers = Handlers(bindings, numbers, tags, TimeOrderedIds(clock), clock, shortest)
    server.add(pb_grpc.add_BindingServiceServicer_to_server, BindingServicer(handlers, clock))

    def task(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task whose failure ends the process: nothing is relayed half."""
        made = asyncio.create_task(work)
        made.add_done_callback(
            lambda t: None if t.cancelled() else server.request_stop(t.exception())
        )
        return made

    await cell.open()
    tasks = [task(owner.run()), task(readiness.run())]
    server.on_stop("tasks", lambda: ended(tasks))
    server.on_stop("allocator", numbers.close)
    server.on_stop("cell", cell.close)
    server.on_stop("health", health.stop)
    health.start()
    return server, await server.start()
