"""Allocator plugged together: settings to adapters to handlers to edges.

Refuses to outlive any of its parts: a task that fails ends the process, so that nothing is followed
or relayed by half. Invariant: the drain ends what works (owner, subscriber) before the cell.
"""

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any, NamedTuple

from axbridge.allocator.v1 import allocator_service_pb2_grpc as pb_grpc
from confluent_kafka.admin import AdminClient

from services.allocator.catalogue import CellCatalogue
from services.allocator.cells import SERVICE, functions
from services.allocator.fold import CellRouteFold
from services.allocator.handlers import Allocator
from services.allocator.rebuild import AllocatorRebuild
from services.allocator.servicer import AllocatorServicer
from services.allocator.settings import AllocatorSettings
from services.allocator.store import CellNumberStore
from services.allocator.subscriber import RouteSubscriber
from services.allocator.sweeper import LeaseSweeper
from services.allocator.upkeep import Upkeep
from services.runtime import topics
from services.runtime.cell import Cell
from services.runtime.clock import Clock, SystemClock
from services.runtime.keyring import FileKeyRing
from services.runtime.metrics import Metrics
from services.runtime.owner import Owner
from services.runtime.readiness import Readiness
from services.runtime.server import AioServer, Options
from services.runtime.tasks import ended
from services.runtime.telemetry import HealthEndpoint

_TOPICS = (topics.ALLOCATOR_NUMBERS, topics.ALLOCATOR_STATE, topics.BINDING_ROUTES)


class Parts(NamedTuple):
    """What works on a cell, whether or not a server stands before it."""

    counts: Mapping[str, int]
    store: CellNumberStore
    rebuild: AllocatorRebuild


def cell_of(settings: AllocatorSettings, name: str = "") -> Cell:
    """The cell of that name, or the configured one."""
    url = settings.redis_url.get_secret_value()
    return Cell(url, SERVICE, name or settings.cell, functions())


def parts_of(settings: AllocatorSettings, cell: Cell, clock: Clock) -> Parts:
    """Plugged together for a cell. Raises FailedPrecondition (TOPIC_MISSING)."""
    kafka, keys = settings.kafka_bootstrap, FileKeyRing(settings.keyring_dir)
    counts = topics.partition_counts(AdminClient({"bootstrap.servers": kafka}), _TOPICS)
    rebuild = AllocatorRebuild(cell, keys, kafka, counts[topics.ALLOCATOR_STATE.name], clock)
    return Parts(counts, CellNumberStore(cell, keys, counts), rebuild)


async def start(settings: AllocatorSettings) -> tuple[AioServer, int]:
    """A started allocator and its port; `drain` ends all of it. Component tests start the same."""
    kafka, clock, metrics = settings.kafka_bootstrap, SystemClock(), Metrics(SERVICE)
    cell = cell_of(settings)
    counts, store, rebuild = parts_of(settings, cell, clock)
    catalogue = CellCatalogue(cell, counts)
    fold, readiness = CellRouteFold(cell), Readiness(cell)
    routes = counts[topics.BINDING_ROUTES.name]
    sweeper = LeaseSweeper(store, fold, kafka, routes, metrics)
    upkeep = Upkeep(catalogue, metrics)
    server = AioServer(Options.of(settings), metrics, lambda: readiness.ready)
    health = HealthEndpoint(settings.health_listen, metrics.registry, server.is_ready)
    register = pb_grpc.add_AllocatorServiceServicer_to_server
    server.add(register, AllocatorServicer(Allocator(catalogue, store, clock), clock, metrics))

    def task(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task whose failure ends the process: nothing is followed or relayed half."""
        made = asyncio.create_task(work)
        made.add_done_callback(
            lambda t: None if t.cancelled() else server.request_stop(t.exception())
        )
        return made

    await cell.open()
    tasks = [
        task(Owner(cell, kafka, rebuild, jobs=[sweeper.run, upkeep.run]).run()),
        task(RouteSubscriber(kafka, cell.name, fold, metrics).run()),
        task(readiness.run()),
    ]
    server.on_stop("tasks", lambda: ended(tasks))
    server.on_stop("cell", cell.close)
    server.on_stop("health", health.stop)
    health.start()
    return server, await server.start()
