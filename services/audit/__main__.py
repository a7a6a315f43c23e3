"""Serves audit's gRPC interface and feeds its index: `python -m services.audit`.

Wiring only. A threaded server, since every answer is a few short reads of files and SQLite, which
would hold up an asyncio loop; threads overlap them (both release the interpreter's lock).
"""

import threading
from functools import partial

from axbridge.audit.v1.audit_service_pb2_grpc import add_AuditServiceServicer_to_server

from services.audit.extract import TERMS, Extractor, moment_of
from services.audit.handlers import Audit
from services.audit.indexer import Indexer
from services.audit.indexes import open_index
from services.audit.served import ServedFolder
from services.audit.servicer import AuditServicer
from services.audit.settings import AuditSettings
from services.audit.storage import Faults
from services.audit.tracing import Tracer
from services.runtime.keyring import FileKeyRing
from services.runtime.metrics import Metrics, Name
from services.runtime.sealing import PurgeSealer, Tagger
from services.runtime.server import Options, ThreadedServer
from services.runtime.settings import load
from services.runtime.telemetry import HealthEndpoint, configure_logging


def main() -> None:
    settings = load(AuditSettings)
    configure_logging("audit", settings.log_level)
    metrics = Metrics("audit")
    keyring = FileKeyRing(settings.keyring_dir)
    tagger = Tagger(keyring)
    log = ServedFolder(settings.log_dir / "log")
    index = open_index(settings.index_path, settings.index_url)
    unreadable, faults = metrics.counter(Name.INDEX_UNREADABLE), Faults(metrics)
    extract = Extractor(PurgeSealer(keyring), tagger, unreadable.inc)
    indexer = Indexer(log, index, extract, metrics.gauge(Name.INDEX_LAG), faults)

    audit = Audit(log, index, indexer, tagger)
    tracer = Tracer(log, index, tagger, TERMS, moment_of)
    server = ThreadedServer(Options.of(settings), metrics)
    server.add(add_AuditServiceServicer_to_server, AuditServicer(audit, tracer))
    ready = lambda: server.is_ready() and faults.none  # noqa: E731
    health = HealthEndpoint(settings.health_listen, metrics.registry, ready)
    follow = partial(indexer.run_or, server.request_stop, stop := threading.Event())
    following = threading.Thread(target=follow, name="indexer", daemon=True)
    server.on_stop("stop indexer", stop.set)
    server.on_stop("indexer", following.join)
    server.on_stop("index", index.close)
    server.on_stop("health", health.stop)
    health.start()
    server.start()
    following.start()
    server.serve()


if __name__ == "__main__":
    main()
