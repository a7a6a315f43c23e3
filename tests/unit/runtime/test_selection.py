"""A selection's text tells selections apart."""

from hypothesis import given
from hypothesis import strategies as st

from services.runtime.selection import ANY, Selection, is_area

AREAS = st.lists(st.sampled_from(["440000", "440300"]), max_size=3).map(tuple)
SELECTIONS = st.builds(
    Selection,
    st.sampled_from(["", "700123456780001", "700123456780002"]),
    AREAS,
    st.booleans(),
    st.booleans(),
    st.booleans(),
)


@given(SELECTIONS, SELECTIONS)
def test_equal_texts_are_equal_selections(one: Selection, other: Selection) -> None:
    assert (one.text == other.text) == (one == other)
    assert (one.text == "") == (one == ANY)


def test_areas() -> None:
    assert all(map(is_area, ("440000", "440300")))
    assert not any(map(is_area, ("", "44", "440301", "040300", "4403000", "44030０")))
