"""Questions are checked, and page tokens go with their question."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.audit.domain import PAGE_DEFAULT, Filter, Query, after, page_token
from services.runtime.errors import InvalidArgument

SOME = Filter(tenant="taxi", binding="b1", order_tag=b"tag", start_ms=1)


@given(leaf=st.integers(0, (1 << 63) - 1))
def test_a_token_leads_to_the_next_leaf(leaf: int) -> None:
    assert after(SOME, page_token(SOME, leaf)) == leaf + 1
    assert after(SOME, "") == 0


@pytest.mark.parametrize(
    "other",
    [
        replace(SOME, tenant="food"),
        replace(SOME, binding=""),
        replace(SOME, order_tag=None),
        replace(SOME, start_ms=2),
        replace(SOME, end_ms=2),
        replace(SOME, number="700100000010000"),
        replace(SOME, type="t"),
    ],
)
def test_a_token_of_another_question_is_refused(other: Filter) -> None:
    with pytest.raises(InvalidArgument) as caught:
        after(other, page_token(SOME, 7))
    assert caught.value.reason == "INVALID_PAGE_TOKEN"


@given(token=st.text(min_size=1, max_size=50))
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(InvalidArgument):
        after(SOME, token)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"tenant": "Taxi"}, "tenant"),
        ({"tenant": "../x"}, "tenant"),
        ({"order_id": "o"}, "tenant"),
        ({"number": "70010000001"}, "number"),
        ({"number": "138001380001234"}, "number"),
        ({"binding": "b" * 201}, "binding"),
        ({"order_id": "o" * 201, "tenant": "t"}, "order_id"),
        ({"page_size": -1}, "page_size"),
        ({"page_size": 1001}, "page_size"),
    ],
)
def test_fields_that_no_event_has_are_refused(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        Query(**fields)
    assert (caught.value.reason, caught.value.metadata) == ("INVALID_FIELD", {"field": field})


def test_defaults() -> None:
    assert Query().limit == PAGE_DEFAULT
    assert Query(page_size=7).limit == 7
    assert Query(tenant="t", order_id="o").filter(b"x") == Filter(tenant="t", order_tag=b"x")
