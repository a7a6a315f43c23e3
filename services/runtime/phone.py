"""A party's real number as a value that does not show itself, and the check at the door. Pure.

Accepts mainland mobile numbers only. Landlines are refused like overseas numbers for now: a
landline may be called but not call, which no mode here expresses yet. Nothing is cached: a cache
of checked numbers would be a list of real numbers in memory, for a check that takes a microsecond
in the form that nearly everybody sends, and 30 in any other.

Invariant: no digit of a party's number leaves through repr, str, format, an error or its context;
only the property `e164` shows it.
"""

import re
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import phonenumbers

from services.runtime.errors import InvalidArgument

_MIDDLE: Final = re.compile(r"700[0-9]{12}")
_BLOCK: Final = re.compile(r"700[0-9]{8}")
# A 700 number given as a party: 11 or 15 digits, with or without country code or trunk prefix.
# `+700…` is not one: country code 7 lies elsewhere.
_MIDDLE_GIVEN: Final = re.compile(r"(?:\+?86|0086|0)?700[0-9]{8}(?:[0-9]{4})?")
# Digits of any script, a plus sign, blanks, hyphens, dots and brackets. Stricter than the library,
# which reads letters as keys and cuts numbers out of sentences.
_WRITTEN: Final = re.compile(r"[\d+\uff0b \u00a0\u3000\-\u2010-\u2015\u2212\uff0d.()\uff08\uff09]+")
# As nearly everybody writes them: the library's own rule for mainland mobiles, without its parsing,
# which takes 40 times as long.
_RULE: Final[Any] = phonenumbers.PhoneMetadata.metadata_for_region("CN")
_PLAIN: Final = re.compile(rf"(?:\+86)?({_RULE.mobile.national_number_pattern})", re.ASCII)
_LONGEST: Final = 40  # 15 digits with a separator after each, and room for a prefix
_CHINA: Final = 86


@dataclass(frozen=True, slots=True, repr=False)
class PhoneNumber:
    """A real number in E.164 form, e.g. for sealing. Comparable and hashable, never printable."""

    e164: str

    def __repr__(self) -> str:
        return "PhoneNumber(…)"

    def __format__(self, spec: str) -> str:
        return "PhoneNumber(…)"


def parse_party(text: str, field: str) -> PhoneNumber:
    """The mainland mobile number that a request gives in `field`.

    Raises:
        InvalidArgument: PARTY_NUMBER_INVALID, PARTY_NUMBER_NOT_MAINLAND (also Hong Kong, Macau,
            Taiwan and landlines) or PARTY_NUMBER_IS_MIDDLE. Metadata: `field` alone.
    """
    plain = _PLAIN.fullmatch(text)
    if plain is not None:
        return PhoneNumber(f"+86{plain[1]}")
    if len(text) > _LONGEST or _WRITTEN.fullmatch(text) is None:
        _refuse("PARTY_NUMBER_INVALID", "not a phone number", field)
    digits = phonenumbers.normalize_digits_only(text)
    plus = "+" if "+" in text or "\uff0b" in text else ""
    if _MIDDLE_GIVEN.fullmatch(plus + digits):
        _refuse("PARTY_NUMBER_IS_MIDDLE", "a 700 number cannot be a party", field)
    number = _parsed(text)
    if number is None or not phonenumbers.is_valid_number(number) or number.extension:
        _refuse("PARTY_NUMBER_INVALID", "not a phone number", field)
    kind = phonenumbers.number_type(number)
    if number.country_code != _CHINA or kind != phonenumbers.PhoneNumberType.MOBILE:
        _refuse("PARTY_NUMBER_NOT_MAINLAND", "not a mainland mobile number", field)
    return PhoneNumber(phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164))


def is_middle_number(digits: str) -> bool:
    """Whether these are the 15 digits of a middle number."""
    return _MIDDLE.fullmatch(digits) is not None


def is_block(digits: str) -> bool:
    """Whether these are the 11 managed digits of a block of 10,000 middle numbers."""
    return _BLOCK.fullmatch(digits) is not None


def _parsed(text: str) -> phonenumbers.PhoneNumber | None:
    try:
        return phonenumbers.parse(text, "CN")
    except phonenumbers.NumberParseException:
        return None


def _refuse(reason: str, message: str, field: str) -> NoReturn:
    raise InvalidArgument(reason, message, field=field)
