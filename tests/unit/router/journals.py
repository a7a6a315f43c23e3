"""A Kafka for tests of what is shipped: keeps what is published, fails when told to."""

from collections.abc import Sequence

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
