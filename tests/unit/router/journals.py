"""A journal and a Kafka for tests of what is shipped. The Kafka fails when told to."""

from collections.abc import Callable, Sequence

from services.router.segments import Item
from services.runtime.publisher import Outgoing


class MemoryPublisher:
    """`publisher.Publishing`. `fail` answers: "applied" publishes and reports failure."""

    def __init__(self) -> None:
        self.topic: list[Outgoing] = []
        self.fail: list[str] = []
        self.away = False

    def partitions(self, topic: str) -> int:
        return 0 if self.away else 4

    def publish(self, batch: Sequence[Outgoing]) -> bool:
        how = self.fail.pop(0) if self.fail else ""
        if how in ("", "applied"):
            self.topic += batch
        return how == ""

    def ids(self) -> list[str]:
        """Event ids as they stand on the topic."""
        found = [dict(record.headers)["ce_id"] for record in self.topic]
        return [text.decode() if isinstance(text, bytes) else str(text) for text in found]


class MemoryJournal:
    """A `Journal` in a list; its items are what a shipper would read."""

    name = "r1-0-a"

    def __init__(self) -> None:
        self.written: list[Item] = []

    def append(
        self, kind: int, time_ms: int, key: bytes, value_of: Callable[[str, int], bytes]
    ) -> int:
        sequence = len(self.written) + 1
        self.written.append(Item(sequence, time_ms, kind, key, value_of(self.name, sequence)))
        return sequence

    def append_sealed(
        self, kind: int, time_ms: int, key: bytes, plain: bytes,
        seal: Callable[[bytes, bytes, bytes], bytes],
    ) -> int:  # fmt: skip
        return self.append(kind, time_ms, key, lambda _, n: seal(n.to_bytes(12), plain, key))
