"""How fast a log is written, recomputed and proven from: `python -m bench audit_log`.

One log of `entries` bindings' events of ordinary size, on the disk that `data` lies on. Verify's
speed is of one core alone and of all of them; the sizes below 10 million prove a little faster.
"""

import os
import random
import shutil
import time
from pathlib import Path
from typing import Any, Final

from services.audit.entry import event_id_of, event_of, types_of
from services.audit.logfolder import LogFolder
from services.audit.served import ServedFolder
from services.audit.verify import verify_folder
from services.runtime.topics import EVENT_TOPICS
from tests.audit_events import created, record

ORIGIN: Final = "axbridge.invalid/log/bench"
BATCH: Final = 2000
PROOFS: Final = 20_000


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
    }


def _write(root: Path, entries: int) -> int:
    types = types_of(next(topic for topic in EVENT_TOPICS if topic.name == "binding.bindings.v1"))
    folder = LogFolder.open(root, ORIGIN, event_id_of)
    seconds = 0.0
    for first in range(0, entries, BATCH):
        events = [
            event_of(
                record(created(f"b{n:020d}", serial=n % 10_000), f"e{n:026d}", offset=n), types
            )
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


def _proofs(served: ServedFolder, entries: int) -> dict[str, float]:
    chance = random.Random(1)
    times = []
    for _ in range(PROOFS):
        leaf = chance.randrange(entries)
        started = time.perf_counter()
        served.published().tree.prover().inclusion(leaf)
        times.append((time.perf_counter() - started) * 1000)
    times.sort()
    return {"p50": round(times[PROOFS // 2], 3), "p99": round(times[PROOFS * 99 // 100], 3)}
