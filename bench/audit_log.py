"""How fast a log is written, recomputed, proven from and asked: `python -m bench audit_log`.

One log of `entries` bindings' events of ordinary size, on the disk that `data` lies on. Verify's
speed is of one core alone and of all of them; the sizes below 10 million prove a little faster.
"""

import os
import random
import shutil
import time
from pathlib import Path
from typing import Any, Final

from services.audit.domain import Query
from services.audit.entry import event_id_of, event_of, types_of
from services.audit.extract import Extractor
from services.audit.handlers import Audit
from services.audit.index import SqliteIndex
from services.audit.indexer import Indexer
from services.audit.logfolder import LogFolder
from services.audit.served import ServedFolder
from services.audit.storage import Faults
from services.audit.verify import verify_folder
from services.runtime.keyring import MemoryKeyRing
from services.runtime.metrics import Metrics, Name
from services.runtime.sealing import PurgeSealer, Tagger
from services.runtime.topics import EVENT_TOPICS
from tests.audit_events import TIME_MS, created, record

ORIGIN: Final = "axbridge.invalid/log/bench"
BATCH: Final = 2000
PROOFS: Final = 20_000
QUERIES: Final = 5_000
EVENTS_EACH: Final = 4  # of a binding; they lie far apart in the log


def run(data: Path, entries: int) -> dict[str, Any]:
    """The figures, by what they are of."""
    root = data / "audit_log"
    shutil.rmtree(root, ignore_errors=True)
    written = _write(root, entries)
    served = ServedFolder(root / "log")
    vkey = served.published().vkey
    cores = len(os.sched_getaffinity(0))
    alone, shared = (_verified(root / "log", vkey, entries, n) for n in (1, cores))
    return {
        "entries": entries,
        "written_per_second_deduplicated_and_durable": written,
        "verified_per_second_on_one_core": alone,
        f"verified_per_second_on_{cores}_cores": shared,
        "inclusion_proof_ms": _proofs(served, entries),
        **_indexed(root, served, entries),
    }


def _event(binding: int) -> Any:
    return created(f"b{binding:020d}", serial=binding % 10_000, until_ms=TIME_MS + 86_400_000)


def _write(root: Path, entries: int) -> int:
    types = types_of(next(topic for topic in EVENT_TOPICS if topic.name == "binding.bindings.v1"))
    folder = LogFolder.open(root, ORIGIN, event_id_of)
    seconds = 0.0
    for first in range(0, entries, BATCH):
        events = [
            event_of(record(_event(n % (entries // EVENTS_EACH)), f"e{n:026d}", offset=n), types)
            for n in range(first, min(first + BATCH, entries))
        ]
        started = time.perf_counter()
        folder.append(events, b"")
        seconds += time.perf_counter() - started
    folder.close()
    return round(entries / seconds)


def _verified(log: Path, vkey: str, entries: int, processes: int) -> int:
    started = time.perf_counter()
    verdict = verify_folder(log, vkey, processes=processes)
    assert verdict.ok, verdict
    return round(entries / (time.perf_counter() - started))


def _indexed(root: Path, served: ServedFolder, entries: int) -> dict[str, Any]:
    """Index rows of all entries, sealed parts apart, then queries by binding as the service makes
    them: the page with its entries, each binding having `EVENTS_EACH` events."""
    keyring = MemoryKeyRing()
    metrics = Metrics("audit")
    index = SqliteIndex(root / "index.sqlite")
    extract = Extractor(PurgeSealer(keyring), Tagger(keyring))
    indexer = Indexer(served, index, extract, metrics.gauge(Name.INDEX_LAG), Faults(metrics))
    started = time.perf_counter()
    while indexer.advance():
        pass
    seconds = time.perf_counter() - started
    audit = Audit(served, index, indexer, Tagger(keyring))
    chance, times = random.Random(2), []
    for _ in range(QUERIES):
        binding = f"b{chance.randrange(entries // EVENTS_EACH):020d}"
        started = time.perf_counter()
        page = audit.query_events(Query(binding=binding))
        times.append((time.perf_counter() - started) * 1000)
        assert len(page.events) == EVENTS_EACH
    index.close()
    return {"indexed_per_second": round(entries / seconds), "query_by_binding_ms": _spread(times)}


def _spread(times: list[float]) -> dict[str, float]:
    times.sort()
    return {
        name: round(times[len(times) * at // 100], 3) for name, at in (("p50", 50), ("p99", 99))
    }


def _proofs(served: ServedFolder, entries: int) -> dict[str, float]:
    chance = random.Random(1)
    times = []
    for _ in range(PROOFS):
        leaf = chance.randrange(entries)
        started = time.perf_counter()
        served.published().tree.prover().inclusion(leaf)
        times.append((time.perf_counter() - started) * 1000)
    return _spread(times)
