"""Allocator plugged together: settings to adapters to handlers to edges.

Refuses to outlive any of its parts: a task that fails ends the process, so that nothing is followed
or relayed by half. Invariant: the drain ends what works (owner, subscriber) before the cell.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any

from axbridge.allocator.v1 import allocator_service_pb2_grpc as pb_grpc
from confluent_kafka.admin import AdminClient

from services.allocator.fold import CellRouteFold
from services.allocator.handlers import Allocator
from services.allocator.readiness import Readiness
from services.allocator.rebuild import AllocatorRebuild
from services.allocator.servicer import AllocatorServicer
from services.allocator.settings import AllocatorSettings
from services.allocator.store import SERVICE, CellNumberStore, functions
from services.allocator.subscriber import RouteSubscriber
from services.allocator.sweeper import LeaseSweeper
from services.runtime import topics
from services.runtime.cell import Cell
from services.runtime.clock import SystemClock
from services.runtime.keyring import FileKeyRing
from services.runtime.metrics import Metrics
from services.runtime.owner import Owner
from services.runtime.server import AioServer, Options
from services.runtime.tasks import ended
from services.runtime.telemetry import HealthEndpoint

_TOPICS = (topics.ALLOCATOR_NUMBERS, topics.ALLOCATOR_STATE, topics.BINDING_ROUTES)


async def start(settings: AllocatorSettings) -> tuple[AioServer, int]:
    """A started allocator and its port; `drain` ends all of it. Component tests start the same."""
    kafka, keys, clock = settings.kafka_bootstrap, FileKeyRing(settings.keyring_dir), SystemClock()
    counts = topics.partition_counts(AdminClient({"bootstrap.servers": kafka}), _TOPICS)
    metrics = Metrics(SERVICE)
    cell = Cell(settings.redis_url.get_secret_value(), SERVICE, settings.cell, functions())
    store, fold, readiness = (
        CellNumberStore(cell, keys, counts),
        CellRouteFold(cell),
        Readiness(cell),
    )
    rebuild = AllocatorRebuild(cell, keys, kafka, counts[topics.ALLOCATOR_STATE.name], clock)
    routes = counts[topics.BINDING_ROUTES.name]
    sweeper = LeaseSweeper(store, fold, kafka, routes, metrics)
    server = AioServer(Options.of(settings), metrics, lambda: readiness.ready)
    health = HealthEndpoint(settings.health_listen, metrics.registry, server.is_ready)
    register = pb_grpc.add_AllocatorServiceServicer_to_server
    server.add(register, AllocatorServicer(Allocator(store, clock), clock, metrics))

    def task(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task whose failure ends the process: nothing is followed or relayed half."""
        made = asyncio.create_task(work)
        made.add_done_callback(
            lambda t: None if t.cancelled() else server.request_stop(t.exception())
        )
        return made

    await cell.open()
    tasks = [
        task(Owner(cell, kafka, rebuild, jobs=[sweeper.run]).run()),
        task(RouteSubscriber(kafka, cell.name, fold, metrics).run()),
        task(readiness.run()),
    ]
    server.on_stop("tasks", lambda: ended(tasks))
    server.on_stop("cell", cell.close)
    server.on_stop("health", health.stop)
    health.start()
    return server, await server.start()
