"""Follows a log by its tiles alone: `python -m services.audit.tail LOG --vkey VKEY --state FILE`.

LOG is a served folder or its address (http://…). Prints each entry as a line of JSON once it is
proven to be in the signed tree, and keeps in FILE what it has seen, so that the next run goes on
there and notices a log that was rewritten, shortened or forked meanwhile. Needs no service. Exit
code: 0 all is well, 1 the log is wrong (evidence: FILE.contradiction), 2 it cannot be read.

Invariant: FILE moves on only after the lines were written: after a crash some come again, none is
left out.
"""

import argparse
import sys
import threading
from pathlib import Path
from typing import Final, TextIO

from axbridge.audit.v1.entry_pb2 import Entry, Event, LogKeyAdded, LogKeyRetired
from google.protobuf.json_format import MessageToJson

from services.audit.checkpoint import BadKey, BadNote, NoteVerifier
from services.audit.ports import TileReader
from services.audit.proof import BadProof
from services.audit.reader import TileMissing
from services.audit.remote import RemoteReader
from services.audit.tiles import BadBundle
from services.audit.tilestore import FolderReader
from services.audit.trail import BadTrail, Contradiction, Trail
from services.runtime.signals import stop_on_signals
from services.runtime.wholefile import replace_file

GOOD, WRONG, UNREADABLE = 0, 1, 2
_ADDED: Final = LogKeyAdded.DESCRIPTOR.full_name
_RETIRED: Final = LogKeyRetired.DESCRIPTOR.full_name


class StateFile:
    """Where a trail is kept, replaced whole."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self, vkey: str) -> Trail:
        """The trail so far, or a new one; raises BadTrail."""
        try:
            return Trail.decode(self._path.read_bytes(), vkey)
        except FileNotFoundError:
            return Trail(vkey)

    def keep(self, trail: Trail) -> None:
        replace_file(self._path, trail.encode())

    def keep_evidence(self, trail: Trail, note: bytes, error: Exception) -> Path:
        """Both signed notes, in one file beside the state."""
        path = self._path.with_name(self._path.name + ".contradiction")
        path.write_bytes(f"{error}\n\n".encode() + trail.note + b"\n" + note)
        return path


def advance(reader: TileReader, trail: Trail, state: StateFile, out: TextIO | None) -> None:
    """Follows to the newest checkpoint; errors as `Trail.follow`."""
    before, note = trail.edge.size, trail.note
    for first, entries in trail.follow(reader):
        if first > before:  # what was given out before is written by now
            state.keep(trail)
        for entry in entries:
            _learn(trail, entry)
        if out is not None:
            for leaf, entry in enumerate(entries, first):
                out.write(line(leaf, entry) + "\n")
            out.flush()
    if trail.note != note:
        state.keep(trail)


def _learn(trail: Trail, stored: bytes) -> None:
    """Takes over what a proven leaf says of the log's keys."""
    entry = Entry.FromString(stored)
    if entry.type == _ADDED:
        trail.trust(LogKeyAdded.FromString(entry.value).vkey)
    elif entry.type == _RETIRED:
        trail.distrust(LogKeyRetired.FromString(entry.value).vkey)


def line(leaf: int, entry: bytes) -> str:
    """An entry as one line of JSON (an `axbridge.audit.v1.Event`; octets in base64)."""
    event = Event(leaf_index=leaf)
    event.entry.ParseFromString(entry)
    return MessageToJson(event, preserving_proto_field_name=True, indent=None)


def main(arguments: list[str] | None = None, stop: threading.Event | None = None) -> int:
    parser = argparse.ArgumentParser("python -m services.audit.tail", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("log", metavar="LOG", help="a served folder, or its http(s) address")
    parser.add_argument("--vkey", required=True, help="the log's public key")
    parser.add_argument("--state", type=Path, required=True, metavar="FILE", help="made if missing")
    parser.add_argument("--once", action="store_true", help="end at the newest checkpoint")
    parser.add_argument("--every", type=float, default=1.0, metavar="SECONDS", help="default: 1")
    parser.add_argument("--quiet", action="store_true", help="verify only, print no entries")
    given = parser.parse_args(arguments)
    try:
        NoteVerifier.parse(given.vkey)
        remote = given.log.startswith(("http://", "https://"))
        reader = RemoteReader(given.log) if remote else FolderReader(Path(given.log))
        state = StateFile(given.state)
        trail = state.load(given.vkey)
    except (BadKey, BadTrail, OSError, ValueError) as error:
        parser.error(str(error))
    stop = stop or (threading.Event() if given.once else stop_on_signals())
    out = None if given.quiet else sys.stdout
    try:
        while True:
            code = _round(reader, trail, state, out)
            if given.once or code == WRONG:
                return code
            if stop.wait(given.every):
                return GOOD
    finally:
        if isinstance(reader, RemoteReader):
            reader.close()


def _round(reader: TileReader, trail: Trail, state: StateFile, out: TextIO | None) -> int:
    size = trail.edge.size
    try:
        advance(reader, trail, state, out)
    except Contradiction as error:
        evidence = state.keep_evidence(trail, reader.read_checkpoint() or b"", error)
        print(f"NO: {error}; both checkpoints are in {evidence}", file=sys.stderr)
        return WRONG
    except (BadNote, BadKey, BadProof, BadBundle, TileMissing) as error:
        print(f"NO: {error}", file=sys.stderr)
        return WRONG
    except OSError as error:
        print(f"cannot read the log: {error}", file=sys.stderr)
        return UNREADABLE
    if trail.edge.size > size:
        print(f"YES: {trail.edge.size} leaves, root {trail.edge.root().hex()}", file=sys.stderr)
    return GOOD


if __name__ == "__main__":
    sys.exit(main())
