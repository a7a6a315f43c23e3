"""Both brokers as one thing to start and stop: Kafka and Valkey under one data folder."""

from pathlib import Path
from types import TracebackType
from typing import Self

from deploy.local.kafka import Kafka
from deploy.local.process import Child
from deploy.local.valkey import Valkey


class Brokers:
    """A context in which both brokers run; their data and logs are in `folder`.

    Started again on the same folder they have what they had: Kafka always, Valkey if `appendonly`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        kafka_port: int | None = None,
        valkey_port: int | None = None,
        appendonly: bool = True,
    ) -> None:
        self.kafka = Kafka(folder / "kafka", port=kafka_port)
        self.valkey = Valkey(folder / "valkey", port=valkey_port, appendonly=appendonly)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def children(self) -> tuple[Child, ...]:
        return (self.valkey.child, self.kafka.child)

    def start(self) -> Self:
        """Starts both and returns once both answer; if one fails, neither is left running.

        Raises:
            ChildDied, ChildNotReady: as each broker's `start` does.
        """
        try:
            self.valkey.start()
            self.kafka.start()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stops both; harmless if they are not running."""
        try:
            self.kafka.stop()
        finally:
            self.valkey.stop()

    def environment(self) -> dict[str, str]:
        """The addresses as the environment variables by which tests and services find them."""
        return {"KAFKA_BOOTSTRAP": self.kafka.bootstrap, "REDIS_URL": self.valkey.url}
