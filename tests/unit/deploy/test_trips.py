from pathlib import Path

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.local.trips import NotTrips, mobile, read_orders

OURS = """pickup,dropoff,fare
2019-03-23 20:21:09,2019-03-23 20:27:24,7.0
2019-03-04 16:11:55,2019-03-04 16:19:00,5.0
not a time,2019-03-04 16:19:00,5.0
2019-03-04 16:11:55,2019-03-04 16:11:55,5.0
"""


@given(st.text())
def test_made_numbers_are_mainland_mobiles(seed: str) -> None:
    number = phonenumbers.parse(mobile(seed))
    assert phonenumbers.is_valid_number_for_region(number, "CN")
    assert phonenumbers.number_type(number) == phonenumbers.PhoneNumberType.MOBILE


@pytest.mark.parametrize(
    "header",
    [
        "pickup,dropoff",
        "tpep_pickup_datetime,tpep_dropoff_datetime",
        "\ufefflpep_pickup_datetime , lpep_dropoff_datetime",
    ],
)
def test_our_columns_and_the_tlcs_are_read(tmp_path: Path, header: str) -> None:
    path = tmp_path / "trips.csv"
    path.write_text(OURS.replace("pickup,dropoff", header), encoding="utf-8")
    orders, refused = read_orders(path)
    assert [order.number for order in orders] == [2, 1]
    assert refused == 2
    for order in orders:
        assert order.bind_at < order.release_at
        assert 2 <= len(order.calls) <= 3
        assert all(call.late == (call.at > order.release_at) for call in order.calls)


def test_the_same_file_gives_the_same_orders(tmp_path: Path) -> None:
    path = tmp_path / "trips.csv"
    path.write_text(OURS)
    assert read_orders(path) == read_orders(path)
    assert read_orders(path, seed=2) != read_orders(path)
    assert len(read_orders(path, limit=1)[0]) == 1


def test_a_file_without_times_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(NotTrips, match="no column"):
        read_orders(path)
