"""What is wrong with the disk under the log or its index, as health and metrics tell it.

A process whose storage fails stays up, not ready, and tries again: a disk that has room again, or a
file that was restored, needs no restart. Refuses to call anything else a storage fault. Invariant:
while a fault is reported nothing is acknowledged that is not durable, since whatever raised it
never returned.
"""

import errno
import sqlite3
from collections.abc import Mapping
from typing import Final

import lmdb

from services.audit.checkpoint import BadKey, BadNote
from services.audit.ports import StorageConflict
from services.audit.reader import TileMissing
from services.audit.record import BadRecord
from services.audit.tiles import BadBundle
from services.runtime.errors import Unavailable
from services.runtime.metrics import STORAGE_FAULTS, Metrics, Name
from services.runtime.telemetry import logger

# A disk that was full is asked again this soon.
RETRY_SECONDS: Final = 2.0
_LOG: Final = logger(__name__)
_BY_NUMBER: Final[Mapping[int | None, str]] = {
    errno.ENOSPC: "full",
    errno.EDQUOT: "full",
    errno.EROFS: "readonly",
    errno.EACCES: "readonly",
    errno.EPERM: "readonly",
}
_DAMAGE: Final = (StorageConflict, TileMissing, BadBundle, BadNote, BadKey, BadRecord,
                  lmdb.CorruptedError, lmdb.InvalidError, lmdb.PageNotFoundError)  # fmt: skip


def fault_of(error: BaseException) -> str | None:
    """The kind of fault that an error tells of; None: it is no matter of storage."""
    if isinstance(error, _DAMAGE):
        return "damaged"
    if isinstance(error, Unavailable) and error.reason == "INDEX_UNAVAILABLE":
        return "index"
    if isinstance(error, lmdb.Error):
        return "full" if isinstance(error, lmdb.MapFullError | lmdb.DiskError) else "failing"
    if isinstance(error, OSError) and not isinstance(error, ConnectionError | TimeoutError):
        return _BY_NUMBER.get(error.errno, "failing")
    return None


def index_away(error: sqlite3.Error) -> Unavailable | None:
    """How a failure of SQLite's file is told to callers; None: it is a bug of ours. Its text names
    no value, and is what a person needs to know."""
    if isinstance(error, sqlite3.OperationalError) or type(error) is sqlite3.DatabaseError:
        _LOG.error("the index fails", why=str(error))
        return Unavailable("INDEX_UNAVAILABLE", "the index cannot be read or written")
    return None


class Faults:
    """The faults of one process. Safe from any thread."""

    def __init__(self, metrics: Metrics) -> None:
        self._gauges = {
            kind: metrics.gauge(Name.STORAGE_FAULT, kind=kind) for kind in STORAGE_FAULTS
        }
        self._kind: str | None = None
        for gauge in self._gauges.values():
            gauge.set(0)

    @property
    def none(self) -> bool:
        return self._kind is None

    def report(self, error: BaseException) -> bool:
        """Tells of the fault; False if the error is none."""
        kind = fault_of(error)
        if kind is None:
            return False
        if kind != self._kind:
            self.clear()
            why = f"{type(error).__name__}: {error}"
            _LOG.critical("storage fails; nothing goes on until it works", kind=kind, why=why)
            self._gauges[kind].set(1)
            self._kind = kind
        return True

    def clear(self) -> None:
        """It works."""
        if self._kind is not None:
            self._gauges[self._kind].set(0)
            _LOG.warning("storage works again", after=self._kind)
            self._kind = None
