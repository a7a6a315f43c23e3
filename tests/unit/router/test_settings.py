"""What follows from settings that were left unset."""

from pathlib import Path

import pytest

from services.router.settings import RouterSettings


@pytest.mark.parametrize(
    ("set_to", "workers", "cpus", "pinned"),
    [(None, 2, 2, True), (None, 4, 2, True), (None, 2, 8, False), (True, 2, 8, True),
     (False, 2, 2, False)],
)  # fmt: skip
def test_workers_are_pinned_where_no_cpu_is_left_over(
    set_to: bool | None, workers: int, cpus: int, pinned: bool
) -> None:
    settings = RouterSettings(
        kafka_bootstrap="k:9092", data_dir=Path("d"), keyring_dir=Path("k"),
        evidence_public_key=Path("e"), workers=workers, pin_workers=set_to,
    )  # fmt: skip
    assert settings.pinned(cpus) == pinned
