"""Which errors are of the disk, and how they are told."""

import errno
import sqlite3

import lmdb
import pytest

from services.audit.ports import StorageConflict
from services.audit.reader import TileMissing
from services.audit.record import BadRecord
from services.audit.storage import Faults, fault_of, index_away
from services.audit.tiles import BadBundle
from services.runtime.errors import Unavailable
from services.runtime.metrics import STORAGE_FAULTS, Metrics


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(errno.ENOSPC, "x"), "full"),
        (OSError(errno.EDQUOT, "x"), "full"),
        (lmdb.MapFullError("x"), "full"),
        (OSError(errno.EROFS, "x"), "readonly"),
        (PermissionError(errno.EACCES, "x"), "readonly"),
        (OSError(errno.EIO, "x"), "failing"),
        (lmdb.Error("x"), "failing"),
        (StorageConflict("x"), "damaged"),
        (TileMissing("x"), "damaged"),
        (BadBundle("x"), "damaged"),
        (BadRecord("x"), "damaged"),
        (lmdb.CorruptedError("x"), "damaged"),
        (Unavailable("INDEX_UNAVAILABLE"), "index"),
        (Unavailable("LOG_EMPTY"), None),
        (ConnectionResetError(errno.ECONNRESET, "x"), None),
        (KeyError("x"), None),
    ],
)
def test_kinds(error: Exception, kind: str | None) -> None:
    assert fault_of(error) == kind


def test_what_sqlite_says() -> None:
    for broken in (sqlite3.OperationalError("disk I/O error"), sqlite3.DatabaseError("malformed")):
        away = index_away(broken)
        assert away is not None
        assert away.reason == "INDEX_UNAVAILABLE"
    assert index_away(sqlite3.ProgrammingError("ours")) is None
    assert index_away(sqlite3.IntegrityError("ours")) is None


def test_one_state_at_a_time() -> None:
    metrics = Metrics("audit")
    faults = Faults(metrics)

    def state() -> set[str]:
        values = {
            kind: metrics.registry.get_sample_value("audit_storage_fault", {"kind": kind})
            for kind in STORAGE_FAULTS
        }
        assert set(values.values()) <= {0.0, 1.0}
        return {kind for kind, value in values.items() if value}

    assert (state(), faults.none) == (set(), True)
    assert not faults.report(KeyError("a bug"))
    assert faults.report(OSError(errno.ENOSPC, "x"))
    assert faults.report(OSError(errno.ENOSPC, "x"))
    assert (state(), faults.none) == ({"full"}, False)
    assert faults.report(BadBundle("x"))
    assert state() == {"damaged"}
    faults.clear()
    assert (state(), faults.none) == (set(), True)
