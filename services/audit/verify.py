"""Recomputes a whole log from its entry bundles and says whether it is what its checkpoint signs.

    python -m services.audit.verify FOLDER [--vkey VKEY] [--policy FILE] [--kafka BOOTSTRAP]

Takes FOLDER/vkey where no key is given: then it trusts whoever could write the folder, so keep the
vkey elsewhere if that matters. Needs no service and no private file; a log that grows meanwhile is
checked as of the checkpoint read first. Invariant: YES means that every byte of every file the
checkpoint needs was read and recomputed, and no older partial tile contradicts it.
"""

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from services.audit import merkle
from services.audit.checkpoint import (
    BadKey,
    BadNote,
    Checkpoint,
    NoteVerifier,
    good_signatures,
    open_checkpoint,
)
from services.audit.cosignature import cosigners
from services.audit.merkle import HASH_SIZE, TILE_WIDTH
from services.audit.policy import BadPolicy, Policy
from services.audit.ports import TileReader
from services.audit.reader import StoredTree
from services.audit.recompute import Progress, Wrong, check_tree, read_tile
from services.audit.tiles import WITNESSED, TilePath, bundle_prefix, parse_path
from services.audit.tilestore import VKEY, FolderReader


@dataclass(frozen=True, slots=True)
class Verdict:
    """`problem` None is a yes. `wrong_leaf`: no leaf below it is wrong."""

    checkpoint: Checkpoint | None
    problem: str | None = None
    wrong_leaf: int | None = None
    ahead: int = 0
    witnessed: str = ""

    @property
    def ok(self) -> bool:
        return self.problem is None

    def __str__(self) -> str:
        if self.checkpoint is None or not self.ok:
            leaf = "" if self.wrong_leaf is None else f"\nfirst wrong leaf: {self.wrong_leaf}"
            return f"NO: {self.problem}{leaf}"
        return (
            f"YES: {self.checkpoint.size} entries of {self.checkpoint.origin} recomputed, "
            f"root {self.checkpoint.root.hex()}{self.witnessed}"
        )


def verify_folder(
    folder: Path,
    vkey: str,
    progress: Progress = lambda done, total: None,
    *,
    policy: Policy | None = None,
    processes: int = 1,
) -> Verdict:
    """Checks signature, entries, every tile and the root, and with a policy that enough witnesses
    cosigned; stops at the first thing wrong.

    Raises:
        BadKey: `vkey` is no key.
    """
    verifier = NoteVerifier.parse(vkey)
    reader = FolderReader(folder)
    checkpoint = None
    try:
        witnessed = reader.read(WITNESSED)  # before the checkpoint, which is never older then
        checkpoint = _open(reader, verifier)
        check_tree(folder, checkpoint, progress, processes)
        cosigned = ""
        if witnessed is not None:
            signed = _check_witnessed(reader, verifier, witnessed, checkpoint.size)
            if policy is not None:
                cosigned = _check_policy(policy, witnessed, signed, checkpoint.size)
        elif policy is not None and policy.quorum is not None:
            raise Wrong(f"there is no {WITNESSED}")
        ahead = _check_strays(reader, folder, checkpoint.size)
    except (Wrong, BadNote, BadKey) as wrong:
        return Verdict(checkpoint, str(wrong), wrong.leaf if isinstance(wrong, Wrong) else None)
    return Verdict(checkpoint, ahead=ahead, witnessed=cosigned)


def _open(reader: TileReader, verifier: NoteVerifier) -> Checkpoint:
    beside = _keys_beside(reader)
    if beside and verifier.vkey not in beside:
        raise Wrong("the vkey beside the log is not the given one")
    note = reader.read_checkpoint()
    if note is None:
        raise Wrong("there is no checkpoint")
    # While the log changes keys two sign: each signature is checked, not only that of ours.
    verifiers = [verifier, *(NoteVerifier.parse(vkey) for vkey in beside)]
    signed = good_signatures(note, verifiers)[1]
    if any((each.name, each.key_id) not in signed for each in verifiers[1:]):
        raise Wrong("a key beside the log did not sign the checkpoint")
    return open_checkpoint(note, [verifier], verifier.name)


def _keys_beside(reader: TileReader) -> list[str]:
    """The lines of FOLDER/vkey, which end in a newline each."""
    found = reader.read(VKEY)
    if found is None:
        return []
    if not found.endswith(b"\n"):
        raise Wrong("the vkey beside the log is not the given one")
    return found.decode(errors="replace")[:-1].split("\n")


def _check_witnessed(
    reader: FolderReader, verifier: NoteVerifier, note: bytes, size: int
) -> Checkpoint:
    """The witnessed checkpoint is a beginning of the tree, whose tiles were found sound."""
    signed = open_checkpoint(note, [verifier], verifier.name)
    if signed.size <= size and StoredTree(reader, size).prover().root(signed.size) != signed.root:
        raise Wrong(f"{WITNESSED} is signed, and of another tree of {signed.size} leaves")
    return signed


def _check_policy(policy: Policy, note: bytes, signed: Checkpoint, size: int) -> str:
    """Says how far witnesses vouch for the tree; raises Wrong where too few do."""
    found = set(cosigners(note, [witness.verifier for witness in policy.witnesses]))
    if not policy.satisfied(found):
        raise Wrong(f"{WITNESSED} has {len(found)} cosignatures, too few for the policy")
    if signed.size > size:
        raise Wrong(f"{WITNESSED} is newer than the checkpoint: leaves are missing here")
    return f"\nthe first {signed.size} entries are cosigned by {len(found)} witnesses"


def _check_strays(reader: TileReader, folder: Path, size: int) -> int:
    """Files the checkpoint does not need: an older partial must be a prefix of what replaced it,
    tiles beyond the checkpoint are counted, anything else under tile/ is wrong."""
    ahead = 0
    for name in _files(folder):
        path = parse_path(name)
        if path is None:
            raise Wrong(f"{name} is no name of a tile")
        level = path.level or 0
        last = size >> merkle.TILE_HEIGHT * (level + 1)
        needed = TILE_WIDTH if path.index < last else merkle.partial_width(size, level)
        if path.index > last or path.width > needed:
            ahead += 1
        elif path.width < needed:
            older = reader.read(name)
            newer = read_tile(reader, TilePath(path.level, path.index, needed), 0)
            if older is not None and not _is_prefix(path, older, newer):
                raise Wrong(f"{name} contradicts the tile that replaced it")
    return ahead


def _is_prefix(path: TilePath, older: bytes, newer: bytes) -> bool:
    if path.level is None:
        return older == bundle_prefix(newer, path.width)
    return older == newer[: path.width * HASH_SIZE]


def _files(folder: Path) -> Iterator[str]:
    for root, _, names in os.walk(folder / "tile"):
        for name in names:
            yield os.path.relpath(os.path.join(root, name), folder)


@contextlib.contextmanager
def _bar() -> Iterator[Progress]:
    """A progress bar for a person at a terminal, silence for everyone else."""
    try:
        from rich.console import Console
        from rich.progress import MofNCompleteColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar
    except ModuleNotFoundError:
        yield lambda done, total: None
        return
    console = Console(stderr=True)
    columns = (*Bar.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("recomputing")
        yield lambda done, total: bar.update(task, completed=done, total=total)


def main(arguments: list[str] | None = None) -> int:
    """0 yes, 1 no, 2 usage, or what is asked about cannot be read."""
    parser = argparse.ArgumentParser("python -m services.audit.verify", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="the served folder of a log")
    parser.add_argument("--vkey", help="the log's public key (default: what FOLDER/vkey holds)")
    parser.add_argument("--policy", type=Path, metavar="FILE", help="the witnesses to ask for")
    parser.add_argument("--kafka", metavar="BOOTSTRAP", help="compare with the event topics, too")
    parser.add_argument("--group", type=_group, default=(0, 1), metavar="K/N",
                        help="with --kafka: the log is number K of N (default: 0/1)")  # fmt: skip
    given = parser.parse_args(arguments)
    if not given.folder.is_dir():
        parser.error(f"{given.folder} is not a folder")
    policy = _policy(parser, given.policy)
    vkey = given.vkey
    if vkey is None:
        beside = FolderReader(given.folder).read(VKEY)
        if beside is None:
            parser.error("there is no vkey in the folder; give --vkey")
        vkey = beside.decode(errors="replace").partition("\n")[0]
    try:
        with _bar() as progress:
            cores = len(os.sched_getaffinity(0))
            verdict = verify_folder(given.folder, vkey, progress, policy=policy, processes=cores)
    except BadKey as error:
        if given.vkey is not None:
            parser.error(str(error))
        verdict = Verdict(None, f"FOLDER/vkey: {error}")
    except OSError as error:
        parser.error(f"cannot read the log: {error}")
    print(verdict)
    if not verdict.ok or given.kafka is None:
        return 0 if verdict.ok else 1
    return _compare(given.folder, vkey, given.kafka, given.group)


def _policy(parser: argparse.ArgumentParser, path: Path | None) -> Policy | None:
    try:
        return None if path is None else Policy.parse(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, BadPolicy) as error:
        parser.error(f"{path}: {error}")


def _group(text: str) -> tuple[int, int]:
    number, _, count = text.partition("/")
    if not 0 <= int(number) < int(count):
        raise ValueError
    return int(number), int(count)


def _compare(folder: Path, vkey: str, bootstrap: str, group: tuple[int, int]) -> int:
    """Says how the log, found sound, agrees with the topics it was made from; 2: cannot tell."""
    from services.audit import compare  # the only part that needs Kafka's client and the protos

    try:
        problems = compare.compare_with_topics(
            folder, vkey, bootstrap, patience_seconds=10,
            mine=lambda partition: partition % group[1] == group[0],
        )  # fmt: skip
    except compare.TopicsUnreadable as error:
        print(f"the topics cannot be read: {error}", file=sys.stderr)
        return 2
    for problem in problems:
        print(f"NO: {problem}")
    if not problems:
        print("YES: each distinct event on the topics is one leaf, in the order of its partition")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
