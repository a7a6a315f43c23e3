"""Kills a sequencer at random moments, while events, repeats and nonsense arrive, and checks all:

    python -m tests.audit_storm [--kills 2000] [--seed N] [--per-second 500]

starts a Kafka of its own. tests/fault/test_sequencer_kill.py does a few kills. Invariant: every
checkpoint that a reader ever saw is kept, and the last one must continue each of them.
"""

import argparse
import itertools
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from deploy.local.kafka import Kafka
from services.audit import verify
from services.audit.checkpoint import Checkpoint, NoteVerifier, open_checkpoint
from services.audit.compare import compare_with_topics
from services.audit.proof import check_consistency
from services.audit.reader import StoredTree
from services.audit.tilestore import FolderReader
from services.runtime.envelope import Headers
from tests.audit_events import Publisher, created, envelope, leased, routed
from tests.audit_source import Source, until

PARTITIONS = 3


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


class Keeper:
    """Keeps every checkpoint it ever saw, and demands that each continues the one before."""

    def __init__(self, folder: Path) -> None:
        self._reader = FolderReader(folder)
        self.notes: list[bytes] = []
        self._checked: Checkpoint | None = None
        self._proven = 0  # of notes

    def look(self) -> int:
        note = self._reader.read_checkpoint()
        if note is not None and note not in self.notes[-1:]:
            self.notes.append(note)
        return len(self.notes)

    def check(self, vkey: str) -> int:
        """The size of the newest checkpoint."""
        verifier = NoteVerifier.parse(vkey)
        fresh = [open_checkpoint(n, [verifier], verifier.name) for n in self.notes[self._proven :]]
        seen = [*([self._checked] if self._checked else []), *fresh]
        tree = StoredTree(self._reader, seen[-1].size)
        for old, new in itertools.pairwise(seen):
            proof = tree.prover(new.size).consistency(old.size)
            check_consistency(old.size, old.root, new.size, new.root, proof)
        self._checked, self._proven = seen[-1], len(self.notes)
        return seen[-1].size

    def check_from_the_first(self, vkey: str) -> int:
        """As `check`, believing nothing that was checked before."""
        self._checked, self._proven = None, 0
        return self.check(vkey)


@dataclass
class Storm:
    """Kills, and how they are told of."""

    source: Source
    seed: int
    per_second: int = 2500
    keeper: Keeper = field(init=False)

    def __post_init__(self) -> None:
        self.keeper = Keeper(self.source.served)

    def rage(self, kills: int) -> str:
        """`kills` kills, then peace and a verdict; raises AssertionError, or BadProof."""
        publisher, chance = Publisher(self.source.bootstrap), random.Random(self.seed + 1)
        mixture = Mixture(self.source, publisher, random.Random(self.seed))
        enough = threading.Event()
        publishing = threading.Thread(target=self._publish, args=(mixture, enough))
        publishing.start()
        try:
            for number in range(kills):
                chance.choice((self._kill_any_time, self._kill_at_work, self._freeze))(chance)
                if self.keeper.notes:
                    self.keeper.check(self.source.vkey)
                if number % 100 == 99:
                    print(f"{number + 1} kills, {len(self.keeper.notes)} checkpoints", flush=True)
        finally:
            enough.set()
            publishing.join()
        publisher.publish(self.source.bindings, "the last one", created("b"))
        publisher.flush()
        leaves = mixture.leaves + 1
        self._rest(leaves)
        assert self.keeper.check_from_the_first(self.source.vkey) == leaves
        verdict = verify.verify_folder(self.source.served, self.source.vkey)
        assert verdict.ok, verdict
        source = self.source
        assert (
            compare_with_topics(source.served, source.vkey, source.bootstrap, source.topics) == []
        )
        return f"{kills} kills, {len(self.keeper.notes)} checkpoints kept, {leaves} leaves: sound"

    def _publish(self, mixture: Mixture, enough: threading.Event) -> None:
        serial = 0
        while not enough.wait(0.02):
            for _ in range(self.per_second // 50):
                mixture.publish(serial)
                serial += 1
        mixture.publisher.flush()

    def _kill_any_time(self, chance: random.Random) -> None:
        """From its first instruction on: also while it settles what the one before left."""
        with self.source.sequencer() as process:
            self._pass(chance.random() * 1.5)
            self._kill(process)

    def _kill_at_work(self, chance: random.Random) -> None:
        with self.source.sequencer() as process:
            self._await_growth()
            self._pass(chance.random() * 0.3)
            self._kill(process)

    def _freeze(self, chance: random.Random) -> None:
        """One that stands still keeps the log; a second, started by mistake, waits for its end."""
        with self.source.sequencer() as first, ExitStack() as more:
            self._await_growth()
            first.send_signal(signal.SIGSTOP)
            until(lambda: _stands_still(first.pid))
            second = more.enter_context(self.source.sequencer())
            before = self.keeper.look()
            self._pass(chance.random())
            assert self.keeper.look() == before
            assert second.poll() is None
            if chance.random() < 0.5:
                self._kill(second)
            first.send_signal(signal.SIGCONT)
            self._pass(chance.random() * 0.2)
            self._kill(first)

    def _rest(self, leaves: int) -> None:
        keeper, vkey = self.keeper, self.source.vkey
        with self.source.sequencer() as process:
            until(lambda: keeper.look() and keeper.check(vkey) >= leaves, 120)
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0

    def _await_growth(self) -> None:
        seen = self.keeper.look()
        until(lambda: self.keeper.look() > seen)

    def _pass(self, seconds: float) -> None:
        """A random moment goes by; readers look meanwhile."""
        at = time.monotonic() + seconds
        until(lambda: (self.keeper.look(), time.monotonic() >= at)[1])

    @staticmethod
    def _kill(process: subprocess.Popen[bytes]) -> None:
        process.send_signal(signal.SIGKILL)
        process.wait()


def _stands_still(pid: int) -> bool:
    """Whether each thread has stopped, so that nothing of it is under way."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    stats = [(thread / "stat").read_text() for thread in threads]
    return all(stat.rpartition(")")[2].split()[0] == "T" for stat in stats)


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.audit_storm")
    parser.add_argument("--kills", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--per-second", type=int, default=500, help="events")
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="axbridge-storm-") as folder:
        kafka = Kafka(Path(folder) / "kafka").start()
        try:
            root = Path(folder) / "audit"
            with Source.made(kafka.bootstrap, root, PARTITIONS) as source:
                print(Storm(source, given.seed, given.per_second).rage(given.kills))
        finally:
            kafka.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
