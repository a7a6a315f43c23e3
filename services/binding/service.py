"""Plugs binding together: the one place that knows every concrete class.

Refuses to decide anything. Invariant: what ends by itself ends the process, so that nothing is
served or relayed half.
"""

import asyncio
from collections.abc import Collection, Coroutine
from typing import Any, Final, NamedTuple

from axbridge.binding.v1 import binding_service_pb2_grpc as pb_grpc
from axbridge.binding.v1 import blacklist_service_pb2_grpc as blacklist_grpc
from axbridge.binding.v1 import consent_service_pb2_grpc as consent_grpc
from axbridge.binding.v1 import retention_service_pb2_grpc as retention_grpc
from confluent_kafka.admin import AdminClient

from services.binding import keeper, sweeper
from services.binding.answers import Answers
from services.binding.batches import Batches
from services.binding.blacklistmessages import BlacklistMessages
from services.binding.blacklists import BlacklistHandlers
from services.binding.blacklistservicer import BlacklistServicer
from services.binding.blackliststore import CellBlacklist
from services.binding.changes import Changes
from services.binding.clients import AllocatorNumbers
from services.binding.consentmessages import ConsentMessages
from services.binding.consents import ConsentHandlers
from services.binding.consentservicer import ConsentServicer
from services.binding.consentstore import CellConsents
from services.binding.erasure import Erasures
from services.binding.export import Exports, reader_of
from services.binding.handlers import Handlers
from services.binding.holds import Holds
from services.binding.ledger import Ledger
from services.binding.ports import Bindings, Numbers
from services.binding.purger import Purger, tenants_of
from services.binding.rebuild import BindingRebuild
from services.binding.records import Records
from services.binding.registerrebuild import RegisterRebuild
from services.binding.registers import RegisterRecords
from services.binding.registerstore import CellRegisters
from services.binding.retentionservicer import RetentionServicer
from services.binding.routekeys import RouteKeys
from services.binding.servicer import BindingServicer
from services.binding.settings import BindingSettings
from services.binding.spread import SpreadBindings, SpreadNumbers
from services.binding.store import LIBRARY, SERVICE, CellBindings
from services.binding.sweeps import CellSweeps
from services.binding.upkeep import Drain, Upkeep
from services.binding.vault import KeyedTags, Vault
from services.runtime import topics
from services.runtime.cell import Cell
from services.runtime.clock import Clock, SystemClock
from services.runtime.ids import TimeOrderedIds
from services.runtime.keyring import EvidenceKeys, FileKeyRing
from services.runtime.metrics import Metrics
from services.runtime.owner import Owner
from services.runtime.readiness import Readiness
from services.runtime.sealing import EvidenceWriter, PurgeSealer
from services.runtime.server import AioServer, Options
from services.runtime.tasks import ended
from services.runtime.telemetry import HealthEndpoint

_TOPICS: Final = (
    topics.BINDING_BINDINGS,
    topics.BINDING_STATE,
    topics.BINDING_ROUTES,
    topics.BINDING_KEYS,
    topics.BINDING_CONSENTS,
    topics.BINDING_BLACKLISTS,
    topics.BINDING_DENIALS,
    topics.BINDING_RETENTION,
)


class Parts(NamedTuple):
    """What works on a cell, whether or not a server stands before it."""

    ring: FileKeyRing
    tags: KeyedTags
    keys: RouteKeys
    bindings: CellBindings
    sweeps: CellSweeps
    purger: Purger
    rebuild: BindingRebuild
    ledger: Ledger
    erasures: Erasures
    exports: Exports
    holds: Holds
    consents: ConsentHandlers
    blacklist: BlacklistHandlers
    upkeep: Upkeep


def cell_of(settings: BindingSettings, name: str = "") -> Cell:
    """The cell of that name, or the configured one."""
    return Cell(settings.redis_url.get_secret_value(), SERVICE, name or settings.cell, LIBRARY)


def parts_of(
    settings: BindingSettings, cell: Cell, clock: Clock, metrics: Metrics | None = None
) -> Parts:
    """Plugged together for a cell. Raises FailedPrecondition (TOPIC_MISSING)."""
    kafka, ring = settings.kafka_bootstrap, FileKeyRing(settings.keyring_dir)
    counts = topics.partition_counts(AdminClient({"bootstrap.servers": kafka}), _TOPICS)
    records, register_records = Records(counts), RegisterRecords(counts)
    evidence = EvidenceWriter(EvidenceKeys.load_public(settings.evidence_public_key), ring)
    tags = KeyedTags(ring)
    keys = RouteKeys(cell, records, ring, clock, settings.route_wrapping)
    sealer, ledger = PurgeSealer(ring), Ledger(cell, records, clock)
    vault = Vault(sealer, evidence, cell.source.rpartition("/")[2])
    bindings = CellBindings(cell, records, vault, keys, clock)
    sweeps = CellSweeps(cell, bindings, records, clock)
    purger = Purger(cell, bindings, records, ring, clock, tenants_of(cell, kafka))
    registers, messages = CellRegisters(cell, register_records), ConsentMessages(sealer)
    listed = BlacklistMessages(sealer)
    openers = {**messages.openers, **listed.openers}
    kept = RegisterRebuild(registers, register_records, openers, clock)
    rebuild = BindingRebuild(cell, bindings, records, tags, clock, kept)
    stored = CellConsents(registers, messages)
    consents = ConsentHandlers(stored, bindings, tags, TimeOrderedIds(clock), clock)
    entries = CellBlacklist(registers, listed)
    shortest = settings.minimum_life_seconds * 1000
    blacklist = BlacklistHandlers(entries, tags, TimeOrderedIds(clock), clock, shortest)
    job = Upkeep(
        registers, register_records, messages, listed, Drain(stored, bindings, clock),
        metrics or Metrics(SERVICE),
    )  # fmt: skip
    erasures = Erasures(bindings, stored, ledger, tags, sealer, TimeOrderedIds(clock), clock)
    exports = Exports(cell, bindings, ledger, records, tags, sealer, clock, reader_of(kafka))
    holds = Holds(bindings, ledger, sealer, ring, clock, reader_of(kafka))
    return Parts(
        ring, tags, keys, bindings, sweeps, purger, rebuild, ledger, erasures, exports, holds,
        consents, blacklist, job,
    )  # fmt: skip


async def start(settings: BindingSettings) -> tuple[AioServer, int]:
    """A started binding and its port; `drain` ends all of it. Component tests start the same."""
    clock, metrics = SystemClock(), Metrics(SERVICE)
    cells = {name: cell_of(settings, name) for name in settings.cells}
    parts = {name: parts_of(settings, cell, clock, metrics) for name, cell in cells.items()}
    numbers = {name: AllocatorNumbers(settings.allocator_of(name)) for name in cells}
    readinesses = [Readiness(cell) for cell in cells.values()]
    owners = [_owner(cells[name], parts[name], settings, clock, metrics) for name in cells]
    # One cell that is away does not keep the others from being served.
    server = AioServer(Options.of(settings), metrics, lambda: any(r.ready for r in readinesses))
    health = HealthEndpoint(settings.health_listen, metrics.registry, server.is_ready)
    shortest, own = settings.minimum_life_seconds * 1000, parts[settings.cell]
    bindings: Bindings = own.bindings
    leases: Numbers = numbers[settings.cell]
    if len(cells) > 1:
        stores = {name: each.bindings for name, each in parts.items()}
        bindings = SpreadBindings(stores, settings.cells_of)
        leases = SpreadNumbers(numbers, settings.cells_of)
    handlers = Handlers(bindings, leases, own.tags, TimeOrderedIds(clock), clock, shortest)
    changes = Changes(bindings, own.tags, clock, shortest)
    batches = Batches(handlers, changes, Answers(bindings, clock), clock)
    servicer = BindingServicer(handlers, changes, batches, clock)
    server.add(pb_grpc.add_BindingServiceServicer_to_server, servicer)
    consents = {name: each.consents for name, each in parts.items()}
    consenting = ConsentServicer(consents, settings.cells_of, clock)
    server.add(consent_grpc.add_ConsentServiceServicer_to_server, consenting)
    blacklists = {name: each.blacklist for name, each in parts.items()}
    listing = BlacklistServicer(blacklists, settings.cells_of, clock)
    server.add(blacklist_grpc.add_BlacklistServiceServicer_to_server, listing)
    erasures = {name: each.erasures for name, each in parts.items()}
    own.exports.look_in([parts[name].ledger for name in cells if name != settings.cell])
    holds = {name: each.holds for name, each in parts.items()}
    retention = RetentionServicer(erasures, own.exports, holds, settings.cells_of)
    server.add(retention_grpc.add_RetentionServiceServicer_to_server, retention)

    def task(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task whose failure ends the process: nothing is relayed half."""
        made = asyncio.create_task(work)
        made.add_done_callback(
            lambda t: None if t.cancelled() else server.request_stop(t.exception())
        )
        return made

    for cell in cells.values():
        await cell.open()
    tasks = [task(owner.run()) for owner in owners]
    tasks += [task(readiness.run()) for readiness in readinesses]
    server.on_stop("tasks", lambda: ended(tasks))
    server.on_stop("allocator", lambda: _closed(numbers.values()))
    server.on_stop("cell", lambda: _closed(cells.values()))
    server.on_stop("health", health.stop)
    health.start()
    return server, await server.start()


def _owner(
    cell: Cell, parts: Parts, settings: BindingSettings, clock: Clock, metrics: Metrics
) -> Owner:
    """Whoever owns the cell sweeps it, keeps its route keys, purges and erases."""
    kafka = settings.kafka_bootstrap
    jobs = [make(parts.sweeps, clock, metrics).run for make in (sweeper.expiry, sweeper.forgetter)]
    jobs.append(keeper.of_cell(parts.keys, parts.ring, clock, kafka, cell).run)
    jobs += [parts.purger.run, parts.erasures.run, parts.holds.run, parts.upkeep.run]
    return Owner(cell, kafka, parts.rebuild, jobs=jobs, metrics=metrics)


async def _closed(all_of: Collection[Cell] | Collection[AllocatorNumbers]) -> None:
    for each in all_of:
        await each.close()
