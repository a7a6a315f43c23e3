"""A parked topic in memory."""

from services.runtime.errors import Malformed
from services.runtime.record import Record


class MemoryParking:
    """Keeps what is parked, and why."""

    def __init__(self) -> None:
        self.parked: list[tuple[Record, str]] = []

    def park(self, record: Record, reason: Malformed) -> None:
        self.parked.append((record, reason.reason))
