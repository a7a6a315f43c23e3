"""Entries are packed whole."""

from hypothesis import given
from hypothesis import strategies as st

from services.router.domain import Entry
from services.router.entries import entries, pack_entry


@given(
    st.builds(
        Entry, st.text(max_size=40), st.text(max_size=40), st.integers(0, 2**63), st.booleans(),
        st.integers(0, 2), st.integers(0, 9), st.integers(0, 3), st.integers(0, 1440),
        st.integers(0, 2**62), st.integers(0, 2**62), st.text(max_size=99), st.text(max_size=60),
        st.binary(max_size=99), st.text(max_size=40),
    )
)  # fmt: skip
def test_entries_are_packed_whole(entry: Entry) -> None:
    packed = pack_entry(entry)
    assert entries(packed + packed) == [entry, entry]
