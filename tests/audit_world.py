"""A log with its index and service in this process, without Kafka."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from axbridge.audit.v1.audit_service_pb2_grpc import add_AuditServiceServicer_to_server

from services.audit.entry import event_id_of, event_of, types_of
from services.audit.extract import TERMS, Extractor, moment_of
from services.audit.handlers import Audit
from services.audit.index import SqliteIndex
from services.audit.indexer import Indexer
from services.audit.logfolder import LogFolder
from services.audit.served import ServedFolder
from services.audit.servicer import AuditServicer
from services.audit.storage import Faults
from services.audit.tracing import Tracer
from services.runtime.keyring import MemoryKeyRing
from services.runtime.metrics import Metrics, Name
from services.runtime.sealing import PurgeSealer, Tagger
from services.runtime.topics import EVENT_TOPICS
from tests.audit_events import record

TYPES = {name: kind for topic in EVENT_TOPICS for name, kind in types_of(topic).items()}


class World:
    """Events that are added are leaves, and indexed, at once."""

    def __init__(self, root: Path) -> None:
        self.ring = MemoryKeyRing()
        self.sealer, self.tagger = PurgeSealer(self.ring), Tagger(self.ring)
        self.served = root / "audit/log"
        self.folder = LogFolder.open(root / "audit", "axbridge.example/log", event_id_of)
        self.log, self.index = ServedFolder(self.served), SqliteIndex(root / "index")
        self.indexer = self.indexer_of(self.index)
        self.audit = Audit(self.log, self.index, self.indexer, self.tagger)
        self.tracer = Tracer(self.log, self.index, self.tagger, TERMS, moment_of)
        self.server = grpc.server(ThreadPoolExecutor(2))
        servicer = AuditServicer(self.audit, self.tracer)
        add_AuditServiceServicer_to_server(servicer, self.server)
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()

    def indexer_of(self, index: SqliteIndex) -> Indexer:
        metrics = Metrics("audit")
        lag, faults = metrics.gauge(Name.INDEX_LAG), Faults(metrics)
        return Indexer(self.log, index, Extractor(self.sealer, self.tagger), lag, faults)

    def add(self, event_id: str, message: Any, time_ms: int) -> None:
        self.folder.append([event_of(record(message, event_id, time_ms=time_ms), TYPES)], b"")
        self.indexer.advance()

    def close(self) -> None:
        self.server.stop(None).wait()
        self.index.close()
        self.folder.close()
