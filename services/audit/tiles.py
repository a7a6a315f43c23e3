"""Names the files of a C2SP tlog-tiles log and packs entries into bundles.

Pure: it decides no content and touches no disk. Invariant: a path and a tile are one to one, so
one tile never has two names and a name that parses renders to itself.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from services.audit.merkle import TILE_WIDTH

CHECKPOINT = "checkpoint"
WITNESSED = "checkpoint.witnessed"
MAX_ENTRY = 0xFFFF  # a bundle gives each entry a 16-bit length
MAX_LEVEL = 7  # 256**8 leaves are more than any 63-bit size
_PATH = re.compile(
    r"tile/(entries|[0-7])/((?:x[0-9]{3}/)*[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?", re.ASCII
)


class EntryTooLong(ValueError):
    """An entry above 65,535 bytes cannot be a leaf. Park it; the rest of its batch is sound."""


class BadBundle(ValueError):
    """The bytes are not an entry bundle: a length points beyond the end."""


@dataclass(frozen=True, slots=True)
class TilePath:
    """A tile of hashes at `level`, or an entry bundle (`level` None)."""

    level: int | None
    index: int
    width: int = TILE_WIDTH

    def __str__(self) -> str:
        kind = "entries" if self.level is None else str(self.level)
        partial = "" if self.width == TILE_WIDTH else f".p/{self.width}"
        return f"tile/{kind}/{index_path(self.index)}{partial}"

    @property
    def full(self) -> "TilePath":
        return TilePath(self.level, self.index)


def hash_tile_path(level: int, index: int, width: int = TILE_WIDTH) -> str:
    return str(TilePath(level, index, width))


def bundle_path(index: int, width: int = TILE_WIDTH) -> str:
    return str(TilePath(None, index, width))


def partials_folder(path: TilePath) -> str:
    """The folder that holds the partial forms of `path`."""
    return f"{path.full}.p"


def index_path(index: int) -> str:
    """Three digits a group, all but the last prefixed x: 1234067 is x001/x234/067."""
    if index < 0:
        raise ValueError("a tile index is not negative")
    groups = [f"{index % 1000:03d}"]
    while index := index // 1000:
        groups.append(f"x{index % 1000:03d}")
    return "/".join(reversed(groups))


def parse_path(path: str) -> TilePath | None:
    """The tile that `path` names, or None if it names none (also for a second spelling)."""
    match = _PATH.fullmatch(path)
    if match is None:
        return None
    kind, groups, width = match.groups()
    index = int(groups.replace("/", "").replace("x", ""))
    level = None if kind == "entries" else int(kind)
    tile = TilePath(level, index, int(width) if width else TILE_WIDTH)
    return tile if str(tile) == path else None


def pack_bundle(entries: Iterable[bytes]) -> bytes:
    """Each entry behind its 16-bit big-endian length.

    Raises:
        EntryTooLong: an entry does not fit; nothing is packed.
    """
    try:
        return b"".join([len(entry).to_bytes(2, "big") + entry for entry in entries])
    except OverflowError:
        raise EntryTooLong(f"an entry is longer than {MAX_ENTRY} bytes") from None


def unpack_bundle(bundle: bytes) -> list[bytes]:
    """The entries of a bundle.

    Raises:
        BadBundle: it is cut short.
    """
    entries: list[bytes] = []
    at, end = 0, len(bundle)
    while at < end:
        start = at + 2
        at = start + int.from_bytes(bundle[at:start], "big")
        entries.append(bundle[start:at])
    # A length cut in half also ends here: start is then beyond the end.
    if at != end:
        raise BadBundle("the entry bundle is cut short")
    return entries


def bundle_prefix(bundle: bytes, width: int) -> bytes:
    """The first `width` entries of a bundle, still packed.

    Raises:
        BadBundle: it holds fewer.
    """
    at = 0
    for _ in range(width):
        if at >= len(bundle):
            break
        at += 2 + int.from_bytes(bundle[at : at + 2], "big")
    else:
        if at <= len(bundle):
            return bundle[:at]
    raise BadBundle(f"the entry bundle holds fewer than {width} entries")
