"""Which platform holds which block of the 700 range, as the authority assigned them (R2). Pure.

Refuses to say anything of numbers inside a block: neither who is bound nor whether anybody is.
Invariant: a block has one holder, and our own platform is in the directory.
"""

import json
import re
from typing import Any, Final, NamedTuple

_ID: Final = re.compile(r"[a-z0-9-]{1,32}", re.ASCII).fullmatch
_BLOCK: Final = re.compile(r"700[0-9]{8}", re.ASCII).fullmatch
# Where a platform takes calls: the host of a SIP URI, a port if it is not the usual one.
_ENDPOINT: Final = re.compile(r"[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?", re.ASCII).fullmatch
_KEYS: Final = {"id", "name", "sector", "complaints", "endpoint", "blocks"}


class Platform(NamedTuple):
    """A platform: what anybody may know of it, and where it takes calls to its numbers."""

    id: str
    name: str
    sector: str
    complaints: str
    endpoint: str


class Directory:
    """All platforms, by block."""

    def __init__(self, own: Platform, blocks: dict[str, Platform]) -> None:
        self.own, self._blocks = own, blocks

    def holder(self, number: str) -> Platform | None:
        """Who holds the block of the 15 digits; None: nobody that is known."""
        return self._blocks.get(number[:11])


def parse(text: str) -> Directory:
    """The directory that a JSON text is: `{"own": id, "platforms": [{"id", "name", "sector",
    "complaints", "endpoint", "blocks": [11 digits]}]}`.

    Raises:
        ValueError: it is none, a block has two holders, or our own platform is missing.
    """
    try:
        given = json.loads(text)
        platforms, blocks = dict[str, Platform](), dict[str, Platform]()
        for item in given["platforms"]:
            platform = _platform(item)
            if platform.id in platforms:
                raise ValueError("a platform stands twice")
            platforms[platform.id] = platform
            for block in item["blocks"]:
                if not _BLOCK(block) or block in blocks:
                    raise ValueError("a block is malformed or has two holders")
                blocks[block] = platform
        return Directory(platforms[given["own"]], blocks)
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("not a directory of platforms") from error


def _platform(item: dict[str, Any]) -> Platform:
    if set(item) != _KEYS or not _ID(item["id"]) or not _ENDPOINT(item["endpoint"]):
        raise ValueError("a platform is malformed")
    return Platform(
        item["id"], str(item["name"]), str(item["sector"]), str(item["complaints"]),
        item["endpoint"],
    )  # fmt: skip
