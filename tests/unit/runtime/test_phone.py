"""A party's number is checked once, agrees with phonenumbers, and never shows a digit."""

import contextlib
import copy
import pickle
import traceback

import phonenumbers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.runtime.errors import InvalidArgument
from services.runtime.phone import PhoneNumber, is_block, is_middle_number, parse_party

NATIONAL = "13812345678"
GOOD = [
    NATIONAL,
    "+86" + NATIONAL,
    "+86 138 1234 5678",
    "138-1234-5678",
    "(+86) 138-1234-5678",
    "0086" + NATIONAL,
    "+8613812345678",
    " 138 1234 5678 ",
]
INVALID = [
    "", " ", "+", "-", "1", "abc", "1381234567", "138123456789", "+86138123456789", "23812345678",
    "call 13812345678", "138ABCD5678", "13812345678 ext 5", "13812345678;ext=5", "tel:13812345678",
    "13812345678\n13912345678", "+1 23", "+999 12345678", "9" * 41, "13812345678\0", "10086",
]  # fmt: skip
NOT_MAINLAND = [
    "+14155552671", "+447400123456", "+85291234567", "+85366123456", "+886912345678",
    "+86 10 6552 9988", "010-65529988", "021 6552 9988", "4006668888", "+77001234567",
]  # fmt: skip
MIDDLE = [
    "70012345678", "700123456781234", "+8670012345678", "+86 700 1234 5678 1234",
    "86700123456781234", "008670012345678", "0700-1234-5678", "700 1234 5678", "(700) 12345678",
]  # fmt: skip


@pytest.mark.parametrize("text", GOOD)
def test_accepts_mainland_mobiles_as_people_write_them(text: str) -> None:
    assert parse_party(text, "party_a").e164 == "+86" + NATIONAL


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        *((text, "PARTY_NUMBER_INVALID") for text in INVALID),
        *((text, "PARTY_NUMBER_NOT_MAINLAND") for text in NOT_MAINLAND),
        *((text, "PARTY_NUMBER_IS_MIDDLE") for text in MIDDLE),
    ],
)
def test_refuses_with_a_reason_and_without_the_number(text: str, reason: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_party(text, "party_a")
    error = caught.value
    assert (error.reason, error.metadata) == (reason, {"field": "party_a"})
    assert error.__context__ is None
    assert error.__cause__ is None
    shown = "".join(traceback.format_exception_only(error)) + error.message + repr(error.args)
    assert not any(digit in shown.replace("700", "") for digit in "0123456789")


@settings(deadline=None)
@given(
    st.from_regex(r"\+?[0-9]{1,3}[0-9 -]{6,14}", fullmatch=True)
    | st.integers(10**10, 2 * 10**10 - 1).map(str)
    | st.integers(10**10, 2 * 10**10 - 1).map("+86{}".format)
)
def test_agrees_with_phonenumbers(text: str) -> None:
    try:
        parsed = phonenumbers.parse(text, "CN")
        mobile = phonenumbers.number_type(parsed) == phonenumbers.PhoneNumberType.MOBILE
        valid = mobile and parsed.country_code == 86 and phonenumbers.is_valid_number(parsed)
    except phonenumbers.NumberParseException:
        valid = False
    try:
        number = parse_party(text, "party_a")
    except InvalidArgument:
        assert not valid
    else:
        assert valid
        assert number.e164 == phonenumbers.format_number(
            parsed, phonenumbers.PhoneNumberFormat.E164
        )


@settings(deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_a_number_or_refused(text: str) -> None:
    with contextlib.suppress(InvalidArgument):
        assert parse_party(text, "party_a").e164.startswith("+861")


def test_shows_no_digit_in_any_form() -> None:
    number = parse_party(NATIONAL, "party_a")
    forms = [repr(number), str(number), f"{number}", f"{number!r:>30}", f"{number:>30}"]
    forms += ["%s %r" % (number, number), "{}".format([number])]  # noqa: UP031, UP032
    for form in forms:
        assert not any(char.isdigit() for char in form)
        assert "PhoneNumber(" in form


def test_is_a_frozen_value() -> None:
    number = parse_party(NATIONAL, "party_a")
    assert number == parse_party("+86 " + NATIONAL, "party_b")
    assert len({number, PhoneNumber(number.e164), copy.deepcopy(number)}) == 1
    assert pickle.loads(pickle.dumps(number)) == number
    with pytest.raises(AttributeError):
        number.e164 = "x"  # type: ignore[misc]


@settings(deadline=None)
@given(
    st.from_regex(r"[0-9]{9,17}", fullmatch=True) | st.from_regex(r"700[0-9]{8,12}", fullmatch=True)
)
def test_middle_numbers_and_blocks(digits: str) -> None:
    ours = digits.startswith("700")
    assert is_middle_number(digits) == (ours and len(digits) == 15)
    assert is_block(digits) == (ours and len(digits) == 11)


def test_only_ascii_digits_make_a_middle_number() -> None:
    assert not is_middle_number("700٠٠٠٠٠٠٠٠٠٠٠٠")
    assert not is_middle_number("700123456781234\n")
    assert not is_block("70012345678\n")
