"""Which witnesses must have cosigned a checkpoint: the witness policy format of Sigsum and Tessera.

    witness  NAME VKEY URL
    group    NAME THRESHOLD MEMBER…      (a number, `any` or `all`; members are witnesses or groups)
    quorum   NAME                        (a witness, a group, or `none`)

`#` begins a comment; `log` lines are for clients and passed over. Pure. Invariant: a policy that
parses can be satisfied, and has no two witnesses of one key.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from services.audit.checkpoint import BadKey
from services.audit.cosignature import WitnessVerifier

NONE: Final = "none"
_RESERVED: Final = frozenset({NONE, "any", "all"})  # no names of witnesses or groups


class BadPolicy(ValueError):
    """The text is no policy. Fix the file."""


@dataclass(frozen=True, slots=True)
class Witness:
    """A witness and where to ask it."""

    verifier: WitnessVerifier
    url: str


@dataclass(frozen=True, slots=True)
class Group:
    """Satisfied by `threshold` of its members."""

    threshold: int
    members: tuple["Witness | Group", ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """The witnesses, and whose cosignatures are enough."""

    witnesses: tuple[Witness, ...]
    quorum: Witness | Group | None

    @classmethod
    def parse(cls, text: str) -> "Policy":
        """Raises BadPolicy."""
        named: dict[str, Witness | Group] = {}
        quorum = ""
        for number, line in enumerate(text.splitlines(), 1):
            match line.partition("#")[0].split():
                case [] | ["log", *_]:
                    continue
                case ["witness", name, vkey, url] if name not in {*named, *_RESERVED}:
                    named[name] = _witness(vkey, url, number)
                case ["group", name, threshold, first, *more] if name not in {*named, *_RESERVED}:
                    named[name] = _group(threshold, [first, *more], named, number)
                case ["quorum", name] if not quorum and (name == NONE or name in named):
                    quorum = name
                case _:
                    raise BadPolicy(f"line {number} is not understood")
        witnesses = tuple(found for found in named.values() if isinstance(found, Witness))
        if not quorum:
            raise BadPolicy("there is no quorum")
        if len({witness.verifier.key_id for witness in witnesses}) != len(witnesses):
            raise BadPolicy("two witnesses have one key")
        return cls(witnesses, named.get(quorum))

    def satisfied(self, vkeys: Collection[str]) -> bool:
        """Whether cosignatures of the witnesses with these vkeys are enough."""
        return self.quorum is None or _satisfied(self.quorum, vkeys)


def _satisfied(part: Witness | Group, vkeys: Collection[str]) -> bool:
    if isinstance(part, Witness):
        return part.verifier.vkey in vkeys
    return sum(_satisfied(member, vkeys) for member in part.members) >= part.threshold


def _witness(vkey: str, url: str, number: int) -> Witness:
    try:
        verifier = WitnessVerifier.parse(vkey)
    except BadKey as error:
        raise BadPolicy(f"line {number}: {error}") from None
    if not url.startswith(("http://", "https://")):
        raise BadPolicy(f"line {number}: a witness's address is http(s)://…")
    return Witness(verifier, url.rstrip("/"))


def _group(
    threshold: str, members: list[str], named: dict[str, Witness | Group], number: int
) -> Group:
    if len(set(members)) != len(members) or not set(members) <= set(named):
        raise BadPolicy(f"line {number}: a member is not defined above, or named twice")
    words = {"any": 1, "all": len(members)}
    count = words.get(threshold, int(threshold) if threshold.isdecimal() else 0)
    if not 0 < count <= len(members):
        raise BadPolicy(f"line {number}: no such threshold")
    return Group(count, tuple(named[name] for name in members))
