"""The directory of platforms in a file, and what anybody may ask of it; implements ports.Platforms.

Refuses a file that is not understood: at the start by failing, later by keeping the last good one.
Invariant: `current` is whole at any moment, for it is replaced as one.
"""

from pathlib import Path
from typing import Final

from services.router.directory import Directory, Platform, parse
from services.runtime.telemetry import logger

_LOG: Final = logger(__name__)


class DirectoryFile:
    """`refresh` it now and then; it reads only what changed.

    Raises:
        OSError, ValueError: there is no directory at the start.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = self._now()
        self.current: Directory = parse(path.read_text("utf-8"))

    def own(self) -> Platform:
        return self.current.own

    def holder(self, number: str) -> Platform | None:
        return self.current.holder(number)

    def refresh(self) -> None:
        """Takes over a changed file, once it is a whole one."""
        try:
            stamp = self._now()
            if stamp != self._stamp:
                self._stamp = stamp
                self.current = parse(self._path.read_text("utf-8"))
                _LOG.info("directory of platforms read")
        except (OSError, ValueError) as error:
            _LOG.error("directory of platforms kept", type=type(error).__name__)

    def _now(self) -> tuple[int, int]:
        status = self._path.stat()
        return status.st_mtime_ns, status.st_ino
