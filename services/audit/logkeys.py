"""The keys of a log: which sign its checkpoints, which just ended, and what a change of them is.

Pure. Usually there is one key. While the log changes keys two sign; a key that ended stays in the
private file, public part only, until its end is a leaf. Invariant: at least one key signs, and all
have the log's name.

Private file: a line per key, oldest first: `PRIVATE+KEY+…`, `rotated VKEY` or `compromised VKEY`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from services.audit.checkpoint import BadKey, Checkpoint, NoteSigner, NoteVerifier

ROTATED: Final = "rotated"
COMPROMISED: Final = "compromised"


@dataclass(frozen=True, slots=True)
class Ended:
    """A key that signs no more."""

    verifier: NoteVerifier
    compromised: bool = False


@dataclass(frozen=True, slots=True)
class KeyChange:
    """What a leaf says of a key: added, or, with the `last` checkpoint it signed, ended."""

    vkey: str
    last: Checkpoint | None = None
    compromised: bool = False


@dataclass(frozen=True, slots=True)
class LogKeys:
    """The keys, oldest first. Its repr shows no secret."""

    signers: Sequence[NoteSigner]
    ended: Sequence[Ended] = ()

    @property
    def vkeys(self) -> tuple[str, ...]:
        return tuple(signer.verifier.vkey for signer in self.signers)

    @classmethod
    def parse(cls, text: str, origin: str) -> "LogKeys":
        """Reads what `render` gave; raises BadKey."""
        signers: list[NoteSigner] = []
        ended: list[Ended] = []
        for line in text.removesuffix("\n").split("\n"):
            word, _, vkey = line.partition(" ")
            if word in (ROTATED, COMPROMISED):
                ended.append(Ended(NoteVerifier.parse(vkey), word == COMPROMISED))
            else:
                signers.append(NoteSigner.parse(line))
        if not signers:
            raise BadKey("no key signs")
        for name in [*(s.name for s in signers), *(e.verifier.name for e in ended)]:
            if name != origin:
                raise BadKey(f"the key is of {name!r}, not of {origin!r}")
        return cls(signers, tuple(ended))

    def render(self) -> str:
        """The private file. Secret."""
        words = {False: ROTATED, True: COMPROMISED}
        ends = [f"{words[end.compromised]} {end.verifier.vkey}" for end in self.ended]
        return "".join(f"{line}\n" for line in [*(s.skey() for s in self.signers), *ends])

    def with_new(self) -> "LogKeys":
        """A new key signs beside the one there is."""
        if len(self.signers) != 1:
            raise BadKey("two keys sign already: finish that change first")
        return LogKeys([*self.signers, NoteSigner.generate(self.signers[0].name)], self.ended)

    def without_old(self) -> "LogKeys":
        """The newest key alone signs."""
        if len(self.signers) != 2:
            raise BadKey("only one key signs: begin a change first")
        return LogKeys(self.signers[1:], (*self.ended, Ended(self.signers[0].verifier)))

    def revoked(self) -> "LogKeys":
        """A new key alone signs, at once: whoever else has the old ones must not be believed."""
        lost = [Ended(signer.verifier, compromised=True) for signer in self.signers]
        return LogKeys([NoteSigner.generate(self.signers[0].name)], (*self.ended, *lost))
