"""Reads digits as switches present them: the dialled 700 number and the calling number. Pure.

Prefixes: national, `0`, `86`, `+86`, `0086`; a foreign caller with `+` or `00`. Refuses to judge
whether a calling number is in service: that is settled by whether it is bound. `phonenumbers` takes
28 µs, so it is the oracle of the tests and not on the path of a call.

Invariant: two spellings of one number give one E.164 text, the same that `phonenumbers` gives; so
the caller's tag is the one that the binding was made with.
"""

import re
from typing import Final

from services.router.domain import Caller

# National numbers are 10 or 11 digits, a 700 number 15, so a leading `86` is never ambiguous.
_DIALLED: Final = re.compile(r"(?:(?:\+|00)?86|0)?(700[0-9]{12})", re.ASCII).fullmatch
# 3 to 6 digits that begin with 1 or 9: emergency (110, 112, 119, 120), services, 95xxx, 96xxx.
_SHORT: Final = re.compile(r"(?:(?:\+|00)?86)?[19][0-9]{2,5}", re.ASCII).fullmatch
_MOBILE: Final = r"1[3-9][0-9]{9}"
# Beijing and the two-digit areas have 8 digits, the others 7 or 8; 400 and 800 numbers fit as well.
_FIXED: Final = r"(?:10|2[0-9])[0-9]{8}|[3-9][0-9]{2}[0-9]{7,8}"
_DOMESTIC: Final = re.compile(rf"(?:(?:(?:\+|00)?86)?0?)({_MOBILE}|{_FIXED})", re.ASCII).fullmatch
# E.164: at most 15 digits, and no country code begins with 0. `86` is the mainland's, see above.
_FOREIGN: Final = re.compile(r"(?:\+|00)((?!86)[1-9][0-9]{6,14})", re.ASCII).fullmatch
_WITHHELD: Final = frozenset({
    "", "anonymous", "anonymous.invalid", "anonymous@anonymous.invalid", "private", "restricted",
    "sip:anonymous@anonymous.invalid", "unavailable", "unknown", "withheld",
})  # fmt: skip


def parse_dialled(text: str) -> str | None:
    """The 15 digits of the 700 number that was dialled; None if it was none."""
    if len(text) == 15 and text.isascii() and text.isdigit() and text.startswith("700"):
        return text  # nearly all; the patterns are not touched
    found = _DIALLED(text)
    return found[1] if found else None


def is_short(text: str) -> bool:
    """Whether the digits are an emergency or another short number (110, 119, 12315, 95588): the
    network's own to connect. A 700 number never stands for one, so it is not bindable either."""
    return _SHORT(text) is not None


def parse_caller(text: str) -> str | Caller:
    """The calling number in E.164, or what it is instead. A 700 number is nobody's own number."""
    if len(text) == 11 and "13" <= text < "2" and text.isascii() and text.isdigit():
        return "+86" + text  # nearly all
    found = _DOMESTIC(text)
    if found:
        digits = found[1]
        return Caller.INVALID if digits.startswith("700") else "+86" + digits
    found = _FOREIGN(text)
    if found:
        return "+" + found[1]
    return Caller.WITHHELD if text.strip().lower() in _WITHHELD else Caller.INVALID


def block_of(number: str) -> str:
    """The 11 managed digits of a 700 number."""
    return number[:11]
