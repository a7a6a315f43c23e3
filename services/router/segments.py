"""The form of a journal's segment files: names, frames, reading them back. Pure but for listing.

A frame is a mark, the length and CRC-32 of a body, and the body. Refuses to believe a frame whose
checksum does not fit: a torn tail is the copy that a dying worker did not finish and never
answered; damage before the tail is counted, skipped and searched for the next good frame. Zeros at
the end are what a worker had set aside and did not come to use.

A segment begins with two octets and that of the format; one of another format is left alone.

Invariant: whatever the bytes are, reading ends, and yields only bodies that were written whole.
"""

import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

_MARK: Final = b"\xa7J"
_HEAD: Final = struct.Struct(">2sII")  # mark, length of the body, its CRC-32
_BODY: Final = struct.Struct(">QQBH")  # sequence, ms since 1970, kind, length of the key
_pack_head, _pack_body, _crc32 = _HEAD.pack, _BODY.pack, zlib.crc32  # for each call
LONGEST_BODY: Final = 1024 * 1024
_BEGIN: Final = b"\xa7S"
HEADER: Final = _BEGIN + b"\x02"  # the format of frames, and of what `packed` puts into them
_READ: Final = (_BEGIN + b"\x01", HEADER)  # the first one had no last callers

KINDS: Final = (
    "axbridge.router.v1.CallRouted",
    "axbridge.router.v1.CallRefused",
    "axbridge.router.v1.CallProgressed",
    # The same of short messages: before what is packed of a decision stand encoding and parts.
    "axbridge.router.v1.CallRouted",
    "axbridge.router.v1.CallRefused",
    "axbridge.router.v1.LastCaller",
)
ROUTED, REFUSED, PROGRESSED, MESSAGE_ROUTED, MESSAGE_REFUSED, CALLED = range(6)


class Item(NamedTuple):
    """One event of a journal. `kind` is a place in KINDS."""

    sequence: int
    time_ms: int
    kind: int
    key: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class Read:
    """What a stretch of a segment holds: its items, where reading goes on, and octets skipped.
    `foreign`: the segment is of another format, and nothing of it was read."""

    items: list[Item]
    next: int
    damaged: int
    foreign: bool = False


def frame(sequence: int, time_ms: int, kind: int, key: bytes, value: bytes) -> bytes:
    """One event as it stands in a segment. Raises ValueError: readers would take it for damage."""
    body = _pack_body(sequence, time_ms, kind, len(key)) + key + value
    if len(body) > LONGEST_BODY:
        raise ValueError("the event is too long for a frame")
    return _pack_head(_MARK, len(body), _crc32(body)) + body


def read(data: bytes, start: int, *, closed: bool) -> Read:
    """The items of `data`, whose first octet stands at `start` of the segment.

    While a segment is open, reading stops at the first frame that is not whole: it may be in the
    making. In a closed one nothing comes any more, so bad stretches are skipped.
    """
    items: list[Item] = []
    at = damaged = 0
    if start == 0 and data.startswith(_BEGIN) and len(data) >= len(HEADER):
        if not data.startswith(_READ):
            return Read([], 0, 0, foreign=True)
        at = len(HEADER)
    while at < len(data):
        item, size = _item(data, at)
        if item is not None:
            items.append(item)
            at += size
            continue
        if not closed:
            break
        following = _next_good(data, at + 1)
        if following < 0:  # the torn tail, or a frame that the next stretch will hold whole
            break
        damaged += following - at
        at = following
    return Read(items, start + at, damaged)


def _item(data: bytes, at: int) -> tuple[Item | None, int]:
    head = data[at : at + _HEAD.size]
    if len(head) < _HEAD.size:
        return None, 0
    mark, length, checksum = _HEAD.unpack(head)
    body = data[at + _HEAD.size : at + _HEAD.size + length] if length <= LONGEST_BODY else b""
    if mark != _MARK or len(body) != length or length < _BODY.size or zlib.crc32(body) != checksum:
        return None, 0
    sequence, time_ms, kind, key = _BODY.unpack_from(body)
    if kind >= len(KINDS) or _BODY.size + key > length:
        return None, 0
    rest = body[_BODY.size :]
    return Item(sequence, time_ms, kind, rest[:key], rest[key:]), _HEAD.size + length


def _next_good(data: bytes, at: int) -> int:
    while (at := data.find(_MARK, at)) >= 0:
        if _item(data, at)[0] is not None:
            return at
        at += 1
    return -1


class Segment(NamedTuple):
    """A segment file by its name `<journal>.<number>.seg`."""

    journal: str
    number: int
    path: Path


def segment_path(folder: Path, journal: str, number: int) -> Path:
    """Where a segment lies."""
    return folder / f"{journal}.{number:08d}.seg"


def lock_path(folder: Path, journal: str) -> Path:
    """The file that the journal's writer holds locked as long as it lives."""
    return folder / f"{journal}.lock"


def list_segments(folder: Path) -> list[Segment]:
    """All segments of the folder, each journal's in order."""
    found = []
    for path in folder.glob("*.seg"):
        journal, _, number = path.name.removesuffix(".seg").rpartition(".")
        if journal and number.isdecimal():
            found.append(Segment(journal, int(number), path))
    return sorted(found)


def total_bytes(paths: Iterable[Path]) -> int:
    """Size of the files together; one that was deleted meanwhile counts nothing."""
    total = 0
    for path in paths:
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total
