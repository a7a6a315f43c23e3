"""One Kafka record as consumers see it. Pure; its repr shows the position and never the payload."""

from dataclasses import dataclass

from services.runtime.envelope import Envelope, Headers, parse


@dataclass(frozen=True, slots=True, repr=False)
class Record:
    """A record read from a topic. `value` is None for a tombstone."""

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes | None
    headers: Headers
    timestamp_ms: int

    @property
    def envelope(self) -> Envelope:
        """The parsed headers. Raises Malformed."""
        return parse(self.headers)

    def __repr__(self) -> str:
        return f"<Record {self.topic}[{self.partition}]@{self.offset}>"
