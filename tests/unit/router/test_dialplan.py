"""The dial plan against `phonenumbers`, and against whatever a switch may send."""

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.dialplan import block_of, parse_caller, parse_dialled
from services.router.domain import Caller

PREFIXES = ("", "0", "86", "+86", "0086")
DIGITS = st.text("0123456789", min_size=0, max_size=9)
MOBILE = st.from_regex(r"1[3-9][0-9]{9}", fullmatch=True).filter(str.isascii)
FIXED = st.from_regex(r"(?:10|2[0-9])[0-9]{8}|[3-9][0-9]{2}[0-9]{7,8}", fullmatch=True)


def oracle(text: str) -> str | None:
    """E.164 as `phonenumbers` has it, if it calls the number valid."""
    try:
        number = phonenumbers.parse(text, "CN")
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_valid_number(number) or number.extension:
        return None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


@given(st.sampled_from(PREFIXES), MOBILE | FIXED.filter(str.isascii))
def test_agrees_with_phonenumbers_on_every_valid_number(prefix: str, national: str) -> None:
    expected = oracle(prefix + national)
    if expected is not None:
        assert parse_caller(prefix + national) == expected


@given(st.sampled_from(PREFIXES), MOBILE)
def test_every_spelling_of_a_mobile_is_one_number(prefix: str, national: str) -> None:
    assert parse_caller(prefix + national) == "+86" + national


@given(st.sampled_from([852, 853, 886, 1, 44, 81]), st.sampled_from(["+", "00"]), DIGITS)
def test_foreign_callers_agree_too(country: int, prefix: str, rest: str) -> None:
    expected = oracle(f"{prefix}{country}{rest}")
    if expected is not None and expected == f"+{country}{rest}":
        assert parse_caller(f"{prefix}{country}{rest}") == expected


@given(st.text())
def test_any_text_is_answered(text: str) -> None:
    caller, dialled = parse_caller(text), parse_dialled(text)
    assert isinstance(caller, Caller) or caller[1:].isascii()
    assert dialled is None or (len(dialled) == 15 and dialled in text)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_dialled(prefix: str) -> None:
    assert parse_dialled(prefix + "700123456780001") == "700123456780001"


@pytest.mark.parametrize(
    "text",
    ["", "70012345678000", "7001234567800011", "70012345678", "701123456780001", "+700123456780001",
     "700 123456780001", "７００123456780001", "13812345678", "700123456780001\n",
     "086700123456780001", "70012345678000²", "70012345678000x"],
)  # fmt: skip
def test_dialled_that_is_none(text: str) -> None:
    assert parse_dialled(text) is None


@pytest.mark.parametrize("text", ["", " ", "anonymous", "Anonymous", "RESTRICTED", "unknown",
                                  "sip:anonymous@anonymous.invalid"])  # fmt: skip
def test_withheld(text: str) -> None:
    assert parse_caller(text) is Caller.WITHHELD


@pytest.mark.parametrize(
    "text",
    ["12345", "10086", "138123456789", "1381234567", "+", "86", "0", "+0123456789", "138-1234-5678",
     "７００", "700123456780001", "+86700123456780001", "70012345678", "13812345678\n", "+8612",
     "1381234567８", "12812345678", "1381234567x", "13²12345678"],
)  # fmt: skip
def test_caller_invalid(text: str) -> None:
    assert parse_caller(text) is Caller.INVALID


def test_landlines_are_callers() -> None:
    assert parse_caller("01012345678") == "+861012345678"
    assert parse_caller("075512345678") == "+8675512345678"


def test_block() -> None:
    assert block_of("700123456780001") == "70012345678"
