"""Short messages as a network carries them: their encoding, their parts, what they may say. Pure.

GSM 7 bit (3GPP TS 23.038) where every character has its septet, else UCS-2. Refuses to forward a
text that spells out a party's own number, in whatever digits and with whatever between them.
Invariant: the text that is counted is the one that is sent.
"""

import unicodedata
from enum import IntEnum
from typing import Final, NamedTuple

_BASIC: Final = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    "ÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENDED: Final = frozenset("\f^{}\\[~]|€")  # two septets each, which stay together in a part
# Characters of a message in one part, and of each part of a longer one (domain.md).
_GSM: Final = (160, 154)
_UCS2: Final = (70, 67)
MOST_UNITS: Final = 1000  # of UTF-16: 15 parts
_CHINESE: Final = str.maketrans(
    "〇零一二三四五六七八九幺壹贰叁肆伍陆柒捌玖两", "0012345678911234567892"
)
_OWN_DIGITS: Final = 10  # the last ones, the same however a number is spelled


class Encoding(IntEnum):
    """As axbridge.router.v1.TextEncoding."""

    GSM7 = 1
    UCS2 = 2


class Text(NamedTuple):
    """A text as it is sent; personal data."""

    body: str
    encoding: Encoding
    parts: int

    def __repr__(self) -> str:
        return f"<Text {self.encoding.name} {self.parts}>"


def text_of(body: str) -> Text:
    """The body with its encoding and parts."""
    if all(letter in _BASIC or letter in _EXTENDED for letter in body):
        sizes, limits, encoding = [2 if c in _EXTENDED else 1 for c in body], _GSM, Encoding.GSM7
    else:  # what lies beyond 16 bits is a pair of units, which stays together as well
        sizes, limits, encoding = [2 if c > "\uffff" else 1 for c in body], _UCS2, Encoding.UCS2
    return Text(body, encoding, _parts(sizes, limits))


def units(body: str) -> int:
    """UTF-16 units of a body."""
    return len(body) + sum(letter > "\uffff" for letter in body)


def spells(body: str, e164: str) -> bool:
    """Whether the number can be read in the body: its digits in a row, of any script, Chinese
    numerals among them, with anything but digits between."""
    plain = unicodedata.normalize("NFKC", body).translate(_CHINESE)
    digits = "".join(str(unicodedata.decimal(c, "")) for c in plain)
    return len(e164) > _OWN_DIGITS and e164[-_OWN_DIGITS:] in digits


def _parts(sizes: list[int], limits: tuple[int, int]) -> int:
    single, each = limits
    if sum(sizes) <= single:
        return 1
    parts, room = 1, each
    for size in sizes:
        if size > room:
            parts, room = parts + 1, each
        room -= size
    return parts
