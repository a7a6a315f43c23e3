"""audit on a real Kafka: the sequencer killed at random moments, and the service over its log."""

import itertools
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from deploy.local.kafka import quiet_admin
from services.audit.checkpoint import NoteVerifier, open_checkpoint
from services.audit.compare import compare_with_topics
from services.audit.proof import check_consistency
from services.audit.reader import StoredTree
from services.audit.tilestore import FolderReader
from services.audit.verify import verify_folder
from services.runtime.topics import Topic, ensure
from tests.audit_events import Publisher, created, envelope, leased, routed
from tests.factories import unique
from tests.sequencer_process import topics_of

PARTITIONS = 3
KILLS = 8


@dataclass
class Source:
    """Topics of one test, and the ids that were published on them."""

    bootstrap: str
    root: Path
    bindings: str
    calls: str
    numbers: str
    ids: set[str] = field(default_factory=set)
    malformed: int = 0

    @property
    def arguments(self) -> list[str]:
        return [
            f"binding.bindings.v1={self.bindings}",
            f"router.calls.v1={self.calls}",
            f"allocator.numbers.v1={self.numbers}",
        ]

    @property
    def topics(self) -> list[Topic]:
        return topics_of(self.arguments)

    @property
    def served(self) -> Path:
        return self.root / "log"

    @property
    def vkey(self) -> str:
        return (self.served / "vkey").read_text().strip()

    @contextmanager
    def sequencer(self) -> Iterator[subprocess.Popen[bytes]]:
        environment = os.environ | {
            "AUDIT_KAFKA_BOOTSTRAP": self.bootstrap,
            "AUDIT_LOG_DIR": str(self.root),
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        command = [sys.executable, "-m", "tests.sequencer_process", *self.arguments]
        with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
            try:
                yield process
            finally:
                process.kill()

    def publish(self, random: random.Random, publisher: Publisher, serial: int) -> None:
        """One event, or a repeat of an earlier one, or what is no event."""
        partition = random.randrange(PARTITIONS)
        match random.randrange(12):
            case 0 if self.ids:  # as a relay repeats it: the same bytes, perhaps much later
                old = random.randrange(serial)
                self._event(publisher, old, old % PARTITIONS)
            case 1 if self.malformed < 60:  # the parker's bound is 100 an hour and process
                self.malformed += 1
                kinds = [
                    (b"\xff\xff", envelope(f"bad-{serial}", created("b")).headers()),
                    (b"", [("ce_id", b"no type")]),
                    (b"", envelope(f"bad-{serial}", routed("c")).headers()),
                    (None, envelope(f"bad-{serial}", created("b")).headers()),
                    (created("b" * 66_000).SerializeToString(),
                     envelope(f"bad-{serial}", created("b")).headers()),
                ]  # fmt: skip
                publisher.raw(self.bindings, *random.choice(kinds), partition)
            case _:
                self._event(publisher, serial, serial % PARTITIONS)

    def _event(self, publisher: Publisher, serial: int, partition: int) -> None:
        event_id = f"event-{serial}"
        if serial % 3 == 0:
            publisher.publish(self.calls, event_id, routed(f"call-{serial}"), partition)
        elif serial % 3 == 1:
            publisher.publish(self.bindings, event_id, created(f"b{serial}"), partition)
        else:
            publisher.publish(self.numbers, event_id, leased(serial, serial + 1), partition)
        self.ids.add(event_id)


@pytest.fixture
def source(kafka_bootstrap: str, tmp_path: Path) -> Iterator[Source]:
    names = [unique(kind) for kind in ("bindings", "calls", "numbers")]
    made = Source(kafka_bootstrap, tmp_path / "audit", *names)
    admin = quiet_admin(kafka_bootstrap)
    ensure(admin, partitions=PARTITIONS, topics=made.topics)
    yield made
    both = [name for topic in made.topics for name in (topic.name, topic.parked)]
    for deleted in admin.delete_topics(both).values():
        deleted.result(10)


def until(condition: Callable[[], object], seconds: float = 40) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "in vain"
        time.sleep(0.02)


class Witness:
    """Keeps every checkpoint it ever saw, and demands that each continues the one before."""

    def __init__(self, folder: Path) -> None:
        self._reader = FolderReader(folder)
        self.notes: list[bytes] = []

    def look(self) -> int:
        note = self._reader.read_checkpoint()
        if note is not None and note not in self.notes[-1:]:
            self.notes.append(note)
        return len(self.notes)

    def grew(self, seen: int) -> bool:
        return self.look() > seen

    def check(self, vkey: str) -> int:
        """The size of the newest checkpoint."""
        verifier = NoteVerifier.parse(vkey)
        seen = [open_checkpoint(note, [verifier], verifier.name) for note in self.notes]
        tree = StoredTree(self._reader, seen[-1].size)
        for old, new in itertools.pairwise(seen):
            proof = tree.prover(new.size).consistency(old.size)
            check_consistency(old.size, old.root, new.size, new.root, proof)
        return seen[-1].size


def test_each_distinct_event_is_one_leaf_however_often_the_sequencer_is_killed(
    source: Source,
) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance, moments = random.Random(seed), random.Random(seed + 1)
    witness, publisher = Witness(source.served), Publisher(source.bootstrap)
    enough = threading.Event()

    def publish() -> None:
        serial = 0
        while not enough.wait(0.02):
            for _ in range(50):
                source.publish(chance, publisher, serial)
                serial += 1
        publisher.flush()

    publishing = threading.Thread(target=publish)
    publishing.start()
    try:
        for _ in range(KILLS):
            with source.sequencer() as process:
                # Killed at a random moment of work, not of starting up.
                until(partial(witness.grew, witness.look()))
                at = time.monotonic() + moments.random() * 0.5
                while time.monotonic() < at:
                    witness.look()
                    time.sleep(0.002)
                process.send_signal(signal.SIGKILL)
                process.wait()
    finally:
        enough.set()
        publishing.join()
    publisher.publish(source.bindings, "the last one", created("b"))
    publisher.flush()
    leaves = len(source.ids) + source.malformed + 1
    print(f"{len(witness.notes)} checkpoints, {leaves} leaves")
    with source.sequencer() as process:
        until(lambda: witness.look() and witness.check(source.vkey) >= leaves)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    assert witness.check(source.vkey) == leaves
    verdict = verify_folder(source.served, source.vkey)
    assert verdict.ok, verdict
    assert compare_with_topics(source.served, source.vkey, source.bootstrap, source.topics) == []


def test_a_second_sequencer_idles_until_the_first_ends(source: Source) -> None:
    publisher, witness = Publisher(source.bootstrap), Witness(source.served)
    with source.sequencer() as first:
        until(witness.look)
        with source.sequencer() as second:
            publisher.publish(source.bindings, "one", created("b1"))
            publisher.flush()
            until(lambda: witness.look() and witness.check(source.vkey) == 1)
            assert first.poll() is None
            assert second.poll() is None
            first.kill()
            first.wait()
            publisher.publish(source.bindings, "two", created("b2"))
            publisher.flush()
            until(lambda: witness.look() and witness.check(source.vkey) == 2)
            second.send_signal(signal.SIGTERM)
            assert second.wait(10) == 0


def test_comparison_finds_what_is_missing_and_what_differs(source: Source) -> None:
    publisher, witness = Publisher(source.bootstrap), Witness(source.served)
    with source.sequencer() as process:
        publisher.publish(source.bindings, "one", created("b1"))
        publisher.flush()
        until(lambda: witness.look() and witness.check(source.vkey) == 1)
        process.send_signal(signal.SIGTERM)
        process.wait(10)

    def problems() -> list[str]:
        return compare_with_topics(source.served, source.vkey, source.bootstrap, source.topics)

    assert problems() == []
    publisher.publish(source.bindings, "one", created("b1"))  # a repeat is no leaf of its own
    publisher.publish(source.calls, "two", routed("c1"), 1)
    publisher.flush()
    assert problems() == [f"{source.calls}[1]@0: event two is no leaf"]
