"""No number of a person survives redaction; what must stay readable does."""

import re
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.redaction import MASK, redact, redact_text

mobiles = st.from_regex(r"1[3-9][0-9]{9}", fullmatch=True)
gaps = st.sampled_from(["", " ", "-", "  ", " - ", "\u00a0", "\u2011", "\u200b", "/", "\t"])
prefixes = st.sampled_from(["", "+86", "86", "0086", "+86 ", "86-", "0086 ", "(+86)", "+ 86 "])
texts = st.text(max_size=20).filter(lambda text: not re.search(r"^\d|\d$", text))


@st.composite
def written(draw: st.DrawFn) -> tuple[str, str]:
    """A mobile number, and one of the many ways to write it."""
    number, gap = draw(mobiles), draw(gaps)
    sizes = draw(st.sampled_from([(11,), (3, 4, 4), (3, 8), (7, 4), (1,) * 11, (4, 3, 4), (2, 9)]))
    parts, at = [], 0
    for size in sizes:
        parts.append(number[at : at + size])
        at += size
    text = draw(prefixes) + gap.join(parts)
    if draw(st.booleans()):
        text = text.translate({ord("0") + n: chr(0xFF10 + n) for n in range(10)})  # full width
    return number, text


def digits(text: str) -> str:
    return "".join(str(int(char)) for char in text if char.isdecimal())


@given(written(), texts, texts)
def test_no_planted_number_survives_in_a_text(
    planted: tuple[str, str], before: str, after: str
) -> None:
    number, text = planted
    assert number not in digits(redact_text(f"{before}{text}{after}").replace(MASK, "x"))
    assert MASK in redact_text(f"{before}{text}{after}")


@given(mobiles, st.sampled_from(["", "86", "+86"]))
def test_the_dotted_form_is_masked(number: str, prefix: str) -> None:
    assert redact_text(f"{prefix}{number[:3]}.{number[3:7]}.{number[7:]}") == MASK


@given(mobiles)
def test_no_planted_number_survives_in_a_value(number: str) -> None:
    class Shown:
        def __repr__(self) -> str:
            return f"<party {number}>"

    value = {
        number: [number, int(number), float(number), number.encode(), (Shown(), {number})],
        "deep": {"deep": [{"deep": f"+86 {number[:3]}-{number[3:7]}-{number[7:]}"}]},
    }
    assert number not in str(redact(value))


@given(st.from_regex(r"(\+?86|0086)?700[0-9]{8}([0-9]{4})?", fullmatch=True))
def test_our_own_numbers_pass(number: str) -> None:
    assert redact_text(f"x {number}, 3 times") == f"x {number}, 3 times"


@given(st.uuids(version=4))
def test_uuids_pass_unless_a_number_is_spelled_in_them(value: uuid.UUID) -> None:
    shown = redact_text(f"id={value}")
    assert shown == (f"id={MASK}" if re.search(r"1[3-9]\d{9}", str(value)) else f"id={value}")


def test_a_number_spelled_in_a_uuid_is_masked() -> None:
    assert redact_text("00000000-0000-4000-8000-013812345678") == MASK


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-01-15T13:17:15.123456Z",
        "192.168.100.151:9092",
        "binding.routes.v1 partition 13 offset 123456789",
        "0.1381234567",
        "00000000-0000-7000-8000-000000000001",
    ],
)
def test_what_is_no_number_stays(text: str) -> None:
    assert redact_text(text).replace(MASK, "") == text or text == "0.1381234567"


@pytest.mark.parametrize("text", ["1700000000000", "01012345678", "010-12345678", "95588000000"])
def test_other_long_runs_are_masked(text: str) -> None:
    assert redact_text(f"to {text}.") == f"to {MASK}."


def test_values_keep_their_shape() -> None:
    value = {"a": [1, 2.5, None, True], "b": ("x", b"y"), 3: {"z"}}
    assert redact(value) == {"a": [1, 2.5, None, True], "b": ["x", "y"], "3": ["z"]}


def test_a_broken_repr_and_endless_nesting_do_not_break_a_line() -> None:
    class Broken:
        def __repr__(self) -> str:
            raise ValueError("13812345678")

    assert redact(Broken()) == "<Broken: ValueError>"
    endless: list[object] = []
    endless.append(endless)
    assert "[too deep]" in str(redact(endless))
