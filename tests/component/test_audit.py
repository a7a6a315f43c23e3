"""audit on a real Kafka: the sequencer killed at random moments, and the service over its log."""

import itertools
import random
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from services.audit import verify
from services.audit.checkpoint import NoteVerifier, open_checkpoint
from services.audit.compare import compare_with_topics
from services.audit.proof import check_consistency
from services.audit.reader import StoredTree
from services.audit.tilestore import FolderReader
from services.runtime.envelope import Headers
from tests.audit_events import Publisher, created, envelope, leased, routed
from tests.audit_source import Source, until

PARTITIONS = 3
KILLS = 8


@dataclass
class Mixture:
    """Publishes events, repeats of earlier ones, and what is no event."""

    source: Source
    publisher: Publisher
    chance: random.Random
    ids: set[str] = field(default_factory=set)
    malformed: int = 0

    @property
    def leaves(self) -> int:
        return len(self.ids) + self.malformed

    def publish(self, serial: int) -> None:
        match self.chance.randrange(12):
            case 0 if self.ids:  # as a relay repeats it: the same bytes, perhaps much later
                self._event(self.chance.randrange(serial))
            case 1 if self.malformed < 60:  # the parker's bound is 100 an hour and process
                self.malformed += 1
                partition = self.chance.randrange(PARTITIONS)
                value, headers = self.chance.choice(no_events(f"bad-{serial}"))
                self.publisher.raw(self.source.bindings, value, headers, partition)
            case _:
                self._event(serial)

    def _event(self, serial: int) -> None:
        event_id, partition = f"event-{serial}", serial % PARTITIONS
        topic, message = (
            (self.source.calls, routed(f"call-{serial}")),
            (self.source.bindings, created(f"b{serial}")),
            (self.source.numbers, leased(serial, serial + 1)),
        )[serial // PARTITIONS % 3]
        self.publisher.publish(topic, event_id, message, partition)
        self.ids.add(event_id)


def no_events(event_id: str) -> list[tuple[bytes | None, Headers]]:
    """On the topic of bindings: does not decode, no envelope, foreign type, tombstone, too long."""
    headers = envelope(event_id, created("b")).headers()
    return [
        (b"\xff\xff", headers),
        (b"", [("ce_id", b"no type")]),
        (b"", envelope(event_id, routed("c")).headers()),
        (None, headers),
        (created("b" * 66_000).SerializeToString(), headers),
    ]


@pytest.fixture
def source(kafka_bootstrap: str, tmp_path: Path) -> Iterator[Source]:
    with Source.made(kafka_bootstrap, tmp_path / "audit", PARTITIONS) as made:
        yield made


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
    witness, publisher = Witness(source.served), Publisher(source.bootstrap)
    mixture = Mixture(source, publisher, random.Random(seed))
    moments, enough = random.Random(seed + 1), threading.Event()

    def publish() -> None:
        serial = 0
        while not enough.wait(0.02):
            for _ in range(50):
                mixture.publish(serial)
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
                until(lambda: (witness.look(), time.monotonic() >= at)[1])  # noqa: B023
                process.send_signal(signal.SIGKILL)
                process.wait()
    finally:
        enough.set()
        publishing.join()
    publisher.publish(source.bindings, "the last one", created("b"))
    publisher.flush()
    leaves = mixture.leaves + 1
    print(f"{len(witness.notes)} checkpoints, {leaves} leaves")
    with source.sequencer() as process:
        until(lambda: witness.look() and witness.check(source.vkey) >= leaves)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    assert witness.check(source.vkey) == leaves
    verdict = verify.verify_folder(source.served, source.vkey)
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
    arguments = [str(source.served), "--kafka", source.bootstrap]
    assert verify.main([*arguments]) == 2  # the catalogue's own topics are not here


def test_a_topic_made_anew_ends_the_sequencer_until_a_person_accepts_it(source: Source) -> None:
    publisher, witness = Publisher(source.bootstrap), Witness(source.served)
    with source.sequencer():
        for serial in range(3):
            publisher.publish(source.bindings, f"old-{serial}", created("b"))
        publisher.flush()
        until(lambda: witness.look() and witness.check(source.vkey) == 3)
    source.remake(source.bindings, PARTITIONS)
    publisher = Publisher(source.bootstrap)
    for event_id in ("old-1", "new"):
        publisher.publish(source.bindings, event_id, created("b"))
    publisher.flush()
    with source.sequencer() as process:
        assert process.wait(30) == 1
    assert witness.check(source.vkey) == 3
    with source.sequencer(AUDIT_ACCEPT_VOID="true"):
        until(lambda: witness.look() and witness.check(source.vkey) == 4)
