"""CreateBinding and BatchCreateBindings under load, Kafka-acked, and how far the followers are."""

from pathlib import Path
from typing import Any, Final

from bench import loads
from bench.under_load import Stage

_SIZE: Final = 500  # items of a batch


def single(folder: Path, seconds: float, callers: int) -> dict[str, Any]:
    """Single creates; returns what was measured."""
    with Stage(folder, round(seconds * 4000)) as stage:
        return stage.measured(lambda address: loads.single(address, seconds, callers))


def batched(folder: Path, seconds: float, callers: int) -> dict[str, Any]:
    """Batches of `_SIZE` by so many callers; returns what was measured."""
    with Stage(folder, round(seconds * 10_000)) as stage:
        return stage.measured(lambda address: loads.batches(address, seconds, callers, _SIZE))
