"""Parts as networks count them, and numbers in whatever disguise."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.texts import Encoding, spells, text_of, units

A = "+8613812345678"


@pytest.mark.parametrize(
    ("body", "encoding", "parts"),
    [
        ("a" * 160, Encoding.GSM7, 1),
        ("a" * 161, Encoding.GSM7, 2),
        ("a" * 308, Encoding.GSM7, 2),
        ("a" * 309, Encoding.GSM7, 3),
        ("[" * 80, Encoding.GSM7, 1),
        ("[" * 81, Encoding.GSM7, 2),
        ("a" * 153 + "[" + "a" * 153, Encoding.GSM7, 3),  # the two septets of `[` stay together
        ("車" * 70, Encoding.UCS2, 1),
        ("車" * 71, Encoding.UCS2, 2),
        ("車" * 134, Encoding.UCS2, 2),
        ("車" * 135, Encoding.UCS2, 3),
        ("😀" * 35, Encoding.UCS2, 1),
        ("車" * 66 + "😀" + "車" * 66, Encoding.UCS2, 3),  # and so do its two units
        ("a" * 70 + "車", Encoding.UCS2, 2),
    ],
)
def test_encoding_and_parts(body: str, encoding: Encoding, parts: int) -> None:
    text = text_of(body)
    assert (text.body, text.encoding, text.parts) == (body, encoding, parts)
    assert body not in repr(text)


@given(st.text(min_size=1, max_size=400))
def test_the_parts_are_enough_and_not_many_more(body: str) -> None:
    text = text_of(body)
    if text.encoding is Encoding.UCS2:
        assert text.parts * 67 + 3 >= units(body) == len(body.encode("utf-16-be")) // 2
        assert (text.parts - 1) * 66 < units(body)


@pytest.mark.parametrize("body", [
    "call 13812345678", "138 1234 5678", "138-1234-5678", "+86(138)1234.5678",
    "１３８１２３４５６７８",
    "一三八一二三四五六七八", "幺三八 一二三四 五六七八", "1a3b8c1d2e3f4g5h6i7j8", "٣٨١٢٣٤٥٦٧٨",
    "壹叁捌壹贰叁肆伍陆柒捌",
])  # fmt: skip
def test_a_number_is_seen_in_any_disguise(body: str) -> None:
    assert spells(body, A)
    assert spells(f"我的电话 {body} 谢谢", A)


@pytest.mark.parametrize("body", ["", "13812345679", "1381234567", "楼下等你", "700123456780001"])
def test_other_digits_are_no_number_of_the_party(body: str) -> None:
    assert not spells(body, A)
    assert not spells("13812345678", "")
