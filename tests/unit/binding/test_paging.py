"""Tokens of one list open no other."""

import pytest

from services.binding import paging
from services.runtime.errors import InvalidArgument

ID = "018f2c6e-0000-7000-8000-000000000001"


def test_a_token_gives_back_where_a_page_ended() -> None:
    assert paging.after(paging.token(b"m" * 8, ID), b"m" * 8) == ID
    assert paging.after("", b"m" * 8) == ""


@pytest.mark.parametrize("text", ["!", "AAAA", "ä", paging.token(b"o" * 8, ID)])
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        paging.after(text, b"m" * 8)
    assert refusal.value.reason == "INVALID_PAGE_TOKEN"
