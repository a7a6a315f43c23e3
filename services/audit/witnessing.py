"""Decides what a witness cosigns: C2SP tlog-witness, the body of `add-checkpoint` and its answer.

Pure but for its store and clock. Refuses every checkpoint that does not continue the newest one it
cosigned. Invariant: nothing is cosigned before the store has made it the newest one of its log, in
one step that fails if another checkpoint came between; so a witness never cosigns two trees that
contradict each other, whatever crashes and however many ask at once.
"""

import base64
import binascii
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.audit.checkpoint import BadNote, Checkpoint, NoteVerifier, open_checkpoint, open_note
from services.audit.cosignature import WitnessSigner
from services.audit.merkle import EMPTY_ROOT, HASH_SIZE
from services.audit.proof import BadProof, check_consistency

TEXT = "text/plain; charset=utf-8"
SIZE = "text/x.tlog.size"
MOST_PROOF_LINES = 63


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back over HTTP."""

    status: int
    body: str
    content_type: str = TEXT


@dataclass(frozen=True, slots=True)
class Seen:
    """The newest tree of a log that was cosigned; of a log never seen, the empty one."""

    size: int = 0
    root: bytes = EMPTY_ROOT


class WitnessStore(Protocol):
    """What the witness remembers. Safe from many threads and processes."""

    def newest(self, origin: str) -> Seen:
        """The newest tree of this log."""
        ...

    def replace(self, origin: str, expected: Seen, new: Seen) -> bool:
        """Compare-and-swap: makes `new` the newest if `expected` is. Durable on True; on False
        nothing changed."""
        ...


class BadRequest(ValueError):
    """The body is not one of add-checkpoint."""


def parse_body(body: bytes) -> tuple[int, list[bytes], bytes]:
    """Old size, consistency proof and note; raises BadRequest."""
    head, found, note = body.partition(b"\n\n")
    try:
        first, *lines = head.decode().split("\n")
        size = first.removeprefix("old ")
        proof = [base64.b64decode(line, validate=True) for line in lines]
    except (UnicodeDecodeError, binascii.Error):
        raise BadRequest("the proof is not base64") from None
    if not found or not first.startswith("old ") or not (size.isascii() and size.isdecimal()):
        raise BadRequest("it begins with the old size and has an empty line before the note")
    if len(size) > 19 or len(proof) > MOST_PROOF_LINES:
        raise BadRequest("the old size or the proof is out of range")
    if any(len(node) != HASH_SIZE for node in proof):
        raise BadRequest("a hash of the proof has another length")
    return int(size), proof, note


def render_body(old: int, proof: Sequence[bytes], note: bytes) -> bytes:
    """What `parse_body` reads."""
    lines = [f"old {old}", *(base64.b64encode(node).decode() for node in proof)]
    return "".join(f"{line}\n" for line in lines).encode() + b"\n" + note


class Witness:
    """One witness over the logs it knows. Safe from many threads, if its store is."""

    def __init__(
        self,
        signer: WitnessSigner,
        logs: Iterable[NoteVerifier],
        store: WitnessStore,
        seconds: Callable[[], float],
    ) -> None:
        """`logs`: their keys; a log may have several, while it changes from one to the next."""
        self._signer = signer
        self._logs: dict[str, list[NoteVerifier]] = {}
        for verifier in logs:
            self._logs.setdefault(verifier.name, []).append(verifier)
        self._store = store
        self._seconds = seconds

    def add_checkpoint(self, body: bytes) -> Answer:
        """Cosigns, or says why not."""
        try:
            old, proof, note = parse_body(body)
            origin = note.partition(b"\n")[0].decode()
        except (BadRequest, UnicodeDecodeError) as error:
            return _refusal(400, str(error))
        keys = self._logs.get(origin)
        if keys is None:
            return _refusal(404, "this log is not known here")
        try:
            text = open_note(note, keys)
        except BadNote as error:
            return _refusal(403, str(error))
        try:
            checkpoint = open_checkpoint(note, keys, origin)
        except BadNote as error:
            return _refusal(400, str(error))
        refused = self._advance(checkpoint, old, proof)
        return refused or Answer(200, self._signer.cosign(text, int(self._seconds())))

    def _advance(self, checkpoint: Checkpoint, old: int, proof: list[bytes]) -> Answer | None:
        if old > checkpoint.size:
            return _refusal(400, "the old size is above the new one")
        seen = self._store.newest(checkpoint.origin)
        if old != seen.size or (old == checkpoint.size and seen.root != checkpoint.root):
            return Answer(409, f"{seen.size}\n", SIZE)
        try:
            check_consistency(old, seen.root, checkpoint.size, checkpoint.root, proof)
        except BadProof as error:
            return _refusal(422, str(error))
        # A crash behind this line: the tree counts as seen, and its cosignature was never given;
        # asked again with this size as the old one, it is.
        if not self._store.replace(checkpoint.origin, seen, Seen(checkpoint.size, checkpoint.root)):
            return Answer(409, f"{self._store.newest(checkpoint.origin).size}\n", SIZE)
        return None


def _refusal(status: int, why: str) -> Answer:
    return Answer(status, f"{why}\n")
