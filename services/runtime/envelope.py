"""The envelope of every Kafka record: CloudEvents 1.0 in binary mode, as `ce_*` headers.

Refuses records without an id, type or time. Invariant: nothing in an envelope is personal data;
it says what a value is and where it stands in its writer's history, never whom it is about.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

from services.runtime.errors import Malformed

Headers = list[tuple[str, str | bytes | None]]


class Envelope(NamedTuple):
    """What the headers say.

    `epoch` is the term of the relay that published, `sequence` the place in its cell's outbox,
    `version` the aggregate's version; 0 where a writer has no such thing (journals).
    """

    event_id: str
    type: str
    source: str
    time_ms: int
    version: int = 0
    epoch: int = 0
    sequence: int = 0

    def headers(self) -> Headers:
        """As Kafka headers."""
        return [
            ("ce_specversion", b"1.0"),
            ("ce_id", self.event_id.encode()),
            ("ce_type", self.type.encode()),
            ("ce_source", self.source.encode()),
            ("ce_time", rfc3339(self.time_ms).encode()),
            ("content-type", b"application/protobuf"),
            ("ce_axversion", b"%d" % self.version),
            ("ce_axepoch", b"%d" % self.epoch),
            ("ce_axsequence", b"%d" % self.sequence),
        ]


def parse(headers: Sequence[tuple[str, str | bytes | None]] | None) -> Envelope:
    """Reads an envelope.

    Raises:
        Malformed: ENVELOPE_MALFORMED: a header is missing or is not what it should be.
    """
    found = {name: _text(value) for name, value in headers or ()}
    try:
        return Envelope(
            event_id=found["ce_id"],
            type=found["ce_type"],
            source=found["ce_source"],
            time_ms=epoch_ms(datetime.fromisoformat(found["ce_time"])),
            version=int(found.get("ce_axversion") or 0),
            epoch=int(found.get("ce_axepoch") or 0),
            sequence=int(found.get("ce_axsequence") or 0),
        )
    except (KeyError, ValueError) as error:
        raise Malformed("ENVELOPE_MALFORMED") from error


def header_int(headers: Sequence[tuple[str, str | bytes | None]] | None, name: str) -> int:
    """One number of the envelope, 0 if absent: for readers that need no more of it.

    Raises:
        Malformed: ENVELOPE_MALFORMED: it is no number.
    """
    try:
        return int(header_text(headers, name) or 0)
    except ValueError as error:
        raise Malformed("ENVELOPE_MALFORMED") from error


def header_text(headers: Sequence[tuple[str, str | bytes | None]] | None, name: str) -> str:
    """One text of the envelope, empty if absent."""
    return next((_text(value) for key, value in headers or () if key == name), "")


@lru_cache(maxsize=256)
def rfc3339(time_ms: int) -> str:
    """Milliseconds since 1970 as RFC 3339 in UTC with three decimals."""
    seconds, milliseconds = divmod(time_ms, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC).isoformat()[:19]}.{milliseconds:03d}Z"


def epoch_ms(moment: datetime) -> int:
    """An aware datetime as whole milliseconds since 1970, rounded down."""
    return int(moment.timestamp() * 1000 + 0.0001)


def _text(value: str | bytes | None) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value or ""
