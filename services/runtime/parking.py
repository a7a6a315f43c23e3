"""Parks records that can never be applied on `<topic>.parked`, with the reason, and not too many.

Refuses to hide a broken deployment: past its limit it raises, since then the code is wrong and not
the records (a dead letter queue must not swallow a whole topic). Invariant: when `park` returns,
Kafka has acknowledged the parked copy.
"""

import time
from collections import deque

from confluent_kafka import KafkaError, Message, Producer

from services.runtime.errors import AxbridgeError, Malformed
from services.runtime.record import Record

_ACK_SECONDS = 30.0


class ParkedTooMany(AxbridgeError):
    """More records than the bound could not be applied: stop and let a person look."""


class Parker:
    """Parks at most `limit` records in any `window_seconds`."""

    def __init__(self, bootstrap: str, *, limit: int = 100, window_seconds: float = 3600.0) -> None:
        self._config: dict[str, str | int | bool] = {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "acks": "all",
            "linger.ms": 0,
        }
        self._producer: Producer | None = None
        self._limit = limit
        self._window = window_seconds
        self._times: deque[float] = deque()

    def park(self, record: Record, reason: Malformed) -> None:
        """Copies the record to `<topic>.parked`, its position and the reason in headers.

        Raises:
            ParkedTooMany: the bound is reached, or Kafka does not take the copy.
        """
        now = time.monotonic()
        while self._times and self._times[0] < now - self._window:
            self._times.popleft()
        if len(self._times) >= self._limit:
            raise ParkedTooMany("PARKED_TOO_MANY", topic=record.topic, limit=str(self._limit))
        self._times.append(now)
        if self._producer is None:
            self._producer = Producer(self._config)
        outcome: list[KafkaError | None] = []

        def on_delivery(error: KafkaError | None, _message: Message) -> None:
            outcome.append(error)

        self._producer.produce(
            f"{record.topic}.parked",
            key=record.key,
            value=record.value,
            headers=[
                *record.headers,
                ("ax_parked_reason", reason.reason.encode()),
                ("ax_parked_partition", b"%d" % record.partition),
                ("ax_parked_offset", b"%d" % record.offset),
            ],
            on_delivery=on_delivery,
        )
        self._producer.flush(_ACK_SECONDS)
        if outcome != [None]:
            raise ParkedTooMany("PARKING_FAILED", topic=record.topic)
