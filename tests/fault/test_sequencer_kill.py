"""A sequencer killed and frozen at random moments; `python -m tests.audit_storm` goes on longer."""

import random
from pathlib import Path

import pytest

from tests.audit_source import Source
from tests.audit_storm import PARTITIONS, Storm

KILLS = 12


@pytest.mark.timeout(300)
def test_each_distinct_event_is_one_leaf_however_often_the_sequencer_is_killed(
    kafka_bootstrap: str, tmp_path: Path
) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    with Source.made(kafka_bootstrap, tmp_path / "audit", PARTITIONS) as source:
        print(Storm(source, seed).rage(KILLS))
