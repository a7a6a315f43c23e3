"""The index follows the log: in order, in batches, from where it stands."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.audit.domain import IndexRow
from services.audit.indexer import BATCH, Indexer
from services.audit.logfolder import Event
from services.audit.ports import StorageConflict
from services.audit.storage import Faults
from services.runtime.errors import Unavailable
from services.runtime.metrics import Metrics
from tests.unit.audit.memory_index import MemoryIndex, MemoryLog
from tests.unit.audit.test_handlers import events


class Lag:
    value = -1.0

    def set(self, value: float) -> None:
        self.value = value


def extract(leaf: int, entry: bytes) -> IndexRow:
    return IndexRow(leaf, f"e{leaf}", "t", len(entry))


@pytest.fixture
def log(tmp_path: Path) -> Iterator[MemoryLog]:
    with MemoryLog.made(tmp_path) as made:
        yield made


def test_it_catches_up_in_batches(log: MemoryLog) -> None:
    log.append(*events(BATCH + 300))
    index, lag = MemoryIndex(), Lag()
    indexer = Indexer(log, index, extract, lag, Faults(Metrics("audit")))
    assert indexer.advance() == BATCH
    assert lag.value == 300
    assert indexer.advance() == 300
    assert (indexer.advance(), lag.value) == (0, 0)
    assert [row.leaf for row in index.rows] == list(range(BATCH + 300))
    log.append(Event(b"new", events(1)[0].entry))
    assert indexer.advance() == 1


def test_another_logs_index_is_refused(log: MemoryLog) -> None:
    index = MemoryIndex()
    index.claim("another log")
    log.append(*events(1))
    with pytest.raises(StorageConflict):
        Indexer(log, index, extract, Lag(), Faults(Metrics("audit"))).advance()


def test_an_index_ahead_of_the_log_is_refused(log: MemoryLog) -> None:
    index = MemoryIndex()
    index.add([extract(0, b"")])
    with pytest.raises(StorageConflict):
        Indexer(log, index, extract, Lag(), Faults(Metrics("audit"))).advance()


def test_it_waits_for_a_log_and_stops_when_told(log: MemoryLog) -> None:
    log.empty = True
    index, stop = MemoryIndex(), threading.Event()
    indexer = Indexer(log, index, extract, Lag(), Faults(Metrics("audit")))
    with pytest.raises(Unavailable):
        indexer.advance()
    running = threading.Thread(target=indexer.run, args=(stop,))
    running.start()
    log.append(*events(3))
    log.empty = False
    while index.size < 3:
        assert running.is_alive()
    stop.set()
    running.join(10)
    assert not running.is_alive()


def test_who_waits_is_woken(log: MemoryLog) -> None:
    log.append(*events(3))
    indexer = Indexer(log, MemoryIndex(), extract, Lag(), Faults(Metrics("audit")))
    assert not indexer.beyond(0, 0)
    woken: list[bool] = []
    waiting = threading.Thread(target=lambda: woken.append(indexer.beyond(2, 20)))
    waiting.start()
    indexer.advance()
    waiting.join()
    assert woken == [True]
    assert not indexer.beyond(3, -1)
