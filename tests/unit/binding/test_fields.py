"""Fields are of their form, or refused by their name."""

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from services.binding import fields
from services.runtime.clock import ManualClock
from services.runtime.errors import InvalidArgument


class Context:
    """A call with or without a deadline."""

    def __init__(self, remaining: float | None) -> None:
        self.time_remaining = lambda: remaining


def test_a_deadline_is_on_our_clock() -> None:
    assert fields.deadline(Context(5.0), ManualClock()) == 5.0
    assert fields.deadline(Context(None), ManualClock()) >= 3600


def test_a_page_has_a_size() -> None:
    assert [fields.page_size(size) for size in (0, 1, 1000)] == [100, 1, 1000]
    for size in (-1, 1001):
        with pytest.raises(InvalidArgument):
            fields.page_size(size)


@pytest.mark.parametrize("value", ["", "x" * 5, "a\n", "\u2028"])
def test_text_is_printable_and_short(value: str) -> None:
    assert fields.text("ab 中", 4, "f") == "ab 中"
    with pytest.raises(InvalidArgument) as refusal:
        fields.text(value, 4, "f")
    assert refusal.value.metadata == {"field": "f"}


def test_a_pool_is_the_tenants() -> None:
    assert fields.pool_of("didi", "tenants/didi/pools/city") == "tenants/didi/pools/city"
    for pool in ("tenants/other/pools/city", "city"):
        with pytest.raises(InvalidArgument):
            fields.pool_of("didi", pool)


def test_an_expiry_is_a_moment_of_this_age() -> None:
    assert fields.expiry(True, Timestamp(seconds=2, nanos=5_999_999)) == 2005
    for given, time in ((False, Timestamp(seconds=2)), (True, Timestamp(seconds=253_402_300_800)),
                        (True, Timestamp(seconds=0))):  # fmt: skip
        with pytest.raises(InvalidArgument):
            fields.expiry(given, time)
