"""Asks witnesses to cosign the log's checkpoints: `python -m services.audit.gatherer`.

A checkpoint is published as `checkpoint.witnessed`, beside the sequencer's own, once the policy is
satisfied. It signs nothing itself and has no key: without it the log goes on, unwitnessed.
Invariant: what it publishes is the sequencer's note, octet for octet, with good cosignatures below
it that satisfy the policy, and never a smaller tree than before.
"""

import contextlib
import fcntl
import http.client
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from services.audit.checkpoint import BadNote, Checkpoint, NoteVerifier, open_checkpoint
from services.audit.cosignature import cosigners
from services.audit.policy import Policy, Witness
from services.audit.ports import LogLocked, Published
from services.audit.served import ServedFolder
from services.audit.settings import GathererSettings
from services.audit.tiles import WITNESSED
from services.audit.tilestore import FolderReader
from services.audit.witnessing import Answer, render_body
from services.runtime.errors import Unavailable
from services.runtime.metrics import Metrics, Name
from services.runtime.settings import load
from services.runtime.signals import stop_on_signals
from services.runtime.telemetry import HealthEndpoint, configure_logging, logger
from services.runtime.wholefile import replace_file

_LOG: Final = logger(__name__)
_TIMEOUT_SECONDS: Final = 5.0
_MOST_BYTES: Final = 64 * 1024
# A witness says its size once when we do not know it; a second 409 is answered in the next round.
_TRIES: Final = 2

# (address of the witness, body) -> its answer. Raises OSError where there is none.
Ask = Callable[[str, bytes], Answer]


class Gatherer:
    """Gathers cosignatures for one served folder. `hold` is a folder of this process alone."""

    def __init__(
        self, served: Path, hold: Path, policy: Policy, metrics: Metrics, ask: Ask | None = None
    ) -> None:
        """Raises LogLocked: another gatherer is at work."""
        self._served = served
        self._hold = hold
        self._log = ServedFolder(served)
        self._policy = policy
        self._ask = ask or post
        self._sizes: dict[str, int] = {}  # per vkey, what the witness has seen
        self._size = metrics.gauge(Name.WITNESSED_LEAVES)
        self._answers = {
            outcome: metrics.counter(Name.WITNESS_ANSWERS, outcome=outcome)
            for outcome in ("cosigned", "refused", "silent")
        }
        self._pool = ThreadPoolExecutor(max(len(policy.witnesses), 1), "witness")
        hold.mkdir(exist_ok=True)
        self._lock = os.open(hold, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise LogLocked("another process gathers for this log") from None

    def close(self) -> None:
        """Waits for witnesses that were asked and gives the lock back."""
        self._pool.shutdown()
        os.close(self._lock)

    def round(self) -> bool:
        """Asks every witness about the newest checkpoint, if it is not witnessed yet; whether the
        newest one is witnessed then. Raises Unavailable: LOG_EMPTY."""
        published = self._log.published()
        newest = published.tree.size
        if (before := self._witnessed(published)) is not None and before.size >= newest:
            self._size.set(before.size)
            return before.size == newest
        asked = self._policy.witnesses
        lines = self._pool.map(lambda witness: self._cosigned(witness, published), asked)
        note = published.note + "".join(lines).encode()
        if not self._policy.satisfied(self._cosigners(note)):
            return False
        replace_file(self._served / WITNESSED, note, staging=self._hold / "new")
        self._size.set(newest)
        return True

    def _witnessed(self, published: Published) -> Checkpoint | None:
        """What is published as witnessed, if it is by today's policy."""
        note = FolderReader(self._served).read(WITNESSED)
        if note is None or not self._policy.satisfied(self._cosigners(note)):
            return None
        verifiers = [NoteVerifier.parse(vkey) for vkey in published.vkeys]
        return open_checkpoint(note, verifiers, verifiers[0].name)

    def _cosigners(self, note: bytes) -> set[str]:
        return set(cosigners(note, [witness.verifier for witness in self._policy.witnesses]))

    def _cosigned(self, witness: Witness, published: Published) -> str:
        """The witness's signature line; empty if it gave none."""
        outcome, line = "silent", ""
        try:
            for _ in range(_TRIES):
                answer = self._asked(witness, published)
                if answer is None:
                    break
                if answer.status == http.client.OK:
                    outcome, line = self._checked(witness, published, answer.body)
                    break
                if answer.status != http.client.CONFLICT:
                    outcome = "refused"
                    _LOG.error("a witness refused", url=witness.url, status=answer.status)
                    break
                self._sizes[witness.verifier.vkey] = int(answer.body[:20].strip() or "-1")
        except (OSError, ValueError) as error:
            _LOG.warning("no cosignature", url=witness.url, why=type(error).__name__)
        self._answers[outcome].inc()
        return line

    def _asked(self, witness: Witness, published: Published) -> Answer | None:
        tree, old = published.tree, self._sizes.get(witness.verifier.vkey, 0)
        if not 0 <= old <= tree.size:
            # It has seen a newer checkpoint than this one: the next round brings that.
            self._sizes.pop(witness.verifier.vkey)
            return None
        proof = tree.prover().consistency(old)
        return self._ask(f"{witness.url}/add-checkpoint", render_body(old, proof, published.note))

    def _checked(self, witness: Witness, published: Published, line: str) -> tuple[str, str]:
        """The outcome, and the line if it is this witness's good cosignature and nothing else."""
        try:
            good = cosigners(published.note + line.encode(), [witness.verifier])
        except BadNote:
            good = {}
        if not good or line.count("\n") != 1:
            _LOG.error("a witness answered with no cosignature of its own", url=witness.url)
            return "refused", ""
        self._sizes[witness.verifier.vkey] = published.tree.size
        return "cosigned", line


def post(url: str, body: bytes) -> Answer:
    """An `Ask` over HTTP."""
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=_TIMEOUT_SECONDS)
    try:
        connection.request("POST", parts.path, body)
        answer = connection.getresponse()
        content = answer.read(_MOST_BYTES).decode()
        return Answer(answer.status, content, answer.headers.get("Content-Type", ""))
    except http.client.HTTPException as error:
        raise OSError(type(error).__name__) from error
    finally:
        connection.close()


def follow(gatherer: Gatherer, stop: threading.Event, every_seconds: float) -> None:
    """Rounds until `stop` is set."""
    while not stop.is_set():
        with contextlib.suppress(Unavailable):  # no log yet
            gatherer.round()
        stop.wait(every_seconds)


def main() -> None:
    """Until SIGTERM or SIGINT."""
    settings = load(GathererSettings)
    configure_logging("audit", settings.log_level)
    stop = stop_on_signals()
    policy = Policy.parse(settings.witness_policy.read_text())
    metrics = Metrics("audit")
    root = settings.log_dir
    gatherer = Gatherer(root / "log", root / "gatherer", policy, metrics)
    health = HealthEndpoint(settings.health_listen, metrics.registry)
    health.start()
    try:
        follow(gatherer, stop, settings.witness_every_seconds)
    finally:
        gatherer.close()
        health.stop()


if __name__ == "__main__":
    main()
