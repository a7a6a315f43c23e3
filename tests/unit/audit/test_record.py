"""The private record reads back whole, and no flipped bit or cut of it does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.audit.record import BadRecord, TreeRecord


@given(st.binary(max_size=50), st.lists(st.binary(max_size=50), max_size=5), st.data())
def test_reads_back(state: bytes, entries: list[bytes], data: st.DataObject) -> None:
    record = TreeRecord("o", 7, 7 + len(entries), bytes(32), state, entries)
    encoded = record.encode()
    assert TreeRecord.decode(encoded) == record
    bit = data.draw(st.integers(0, len(encoded) * 8 - 1))
    flipped = bytearray(encoded)
    flipped[bit // 8] ^= 1 << bit % 8
    for damaged in (bytes(flipped), encoded[: bit // 8], encoded + b"\0"):
        with pytest.raises(BadRecord):
            TreeRecord.decode(damaged)
