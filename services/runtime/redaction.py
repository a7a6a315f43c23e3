"""Masks what may be a person's number in any text or value on its way to a log or a response.

Pure. Errs on the side of masking: a masked timestamp is a nuisance, a leaked number is a breach.
What may pass: numbers of 11 or 15 digits that begin with 700 (ours, no person's), UUIDs, and runs
of fewer than 10 digits. Refuses to guess who a number belongs to.

Invariant: no run of digits in which a mainland mobile number (1[3-9] and nine more digits) can be
read survives, whatever stands between its digits: blanks, hyphens, brackets, invisible marks.
"""

import re
from collections.abc import Mapping
from typing import Final

MASK: Final = "[masked]"
_TOO_DEEP: Final = "[too deep]"
_MAX_DEPTH: Final = 12

# Between digits: blanks, brackets, hyphens and dashes, slashes, dots of the middle kind, and the
# invisible marks that pasted numbers bring along. Up to three, as in `+86 (138) - 1234 - 5678`.
_GAP: Final = (
    r"[\s()\[\]\-_/"
    "\u00ad\u00b7\u2022\u2010-\u2015\u2212\uff08\uff09\uff0d\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff"
    r"]{0,3}"
)
_OURS: Final = r"700\d{8}(?:\d{4})?(?!\d)"
_CANDIDATE: Final = re.compile(
    r"(?P<uuid>(?<![0-9A-Za-z])[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}(?![0-9A-Za-z]))"
    rf"|(?P<ours>(?<!\d)(?:\+?86|0086)?{_OURS})"
    # A full stop is no gap, or every address and decimal fraction would be one; 138.1234.5678 is.
    r"|(?P<dotted>(?<!\d)(?:\+?86|0086)?\.?1[3-9]\d\.\d{4}\.\d{4}(?!\d))"
    # One of ours that follows other digits after a gap is left to the second line.
    rf"|(?P<digits>\+?\d(?:{_GAP}(?!(?<!\d){_OURS})\d){{9,}})"
)
_NOT_DIGIT: Final = re.compile(r"\D+")
_LONG_RUN: Final = re.compile(r"\d{10,}")
_MOBILE: Final = re.compile(r"1[3-9]\d{9}")


def redact_text(text: str) -> str:
    """The text with everything that may be a person's number replaced by the mask."""
    return _CANDIDATE.sub(_judge, text)


def _judge(found: re.Match[str]) -> str:
    text = found.group()
    match found.lastgroup:
        case "ours":
            return text
        case "uuid":  # someone may have spelled a number with the digits of a UUID
            return MASK if _MOBILE.search(text) else text
        case "digits":
            digits = _ascii(_NOT_DIGIT.sub("", text))
            fixed_line = text.startswith("+") or digits.startswith("0")
            masked = fixed_line or _LONG_RUN.search(_ascii(text)) or _MOBILE.search(digits)
            return MASK if masked else text
    return MASK


def _ascii(text: str) -> str:
    """Every decimal digit of any script as 0 to 9, for patterns with ranges such as [3-9]."""
    if text.isascii():
        return text
    return "".join(str(int(char)) if char.isdecimal() else char for char in text)


def redact(value: object, depth: int = 0) -> object:
    """A copy of the value, made of plain JSON types, in which every text and number is masked.

    Unknown objects become their redacted `repr`; nesting deeper than 12 is cut off.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, int):
        return value if redact_text(str(value)) == str(value) else MASK
    if isinstance(value, float):  # the fraction cannot hold a number, the whole part can
        return value if abs(value) < 1e9 else redact_text(repr(value))
    if depth >= _MAX_DEPTH:
        return _TOO_DEEP
    if isinstance(value, Mapping):
        return {redact_text(str(key)): redact(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [redact(item, depth + 1) for item in value]
    if isinstance(value, bytes | bytearray | memoryview):
        return redact_text(bytes(value).decode("utf-8", "replace"))
    try:
        return redact_text(repr(value))
    except Exception as broken:  # a log line must not fail because of what it shows
        return f"<{type(value).__name__}: {type(broken).__name__}>"
