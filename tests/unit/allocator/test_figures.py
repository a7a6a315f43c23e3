"""Pool mathematics as messages."""

from itertools import pairwise
from typing import Any

import pytest
from axbridge.allocator.v1 import allocator_service_pb2 as pb
from axbridge.allocator.v1 import number_pb2
from google.protobuf.duration_pb2 import Duration

from services.allocator import figures
from services.allocator.domain import DAY_MS, Outlook, Policy, Statistics
from services.allocator.sizing import Advice, Load
from services.runtime.errors import InvalidArgument


def test_classes_of_pairs_follow_each_other() -> None:
    found = figures.statistics_out(
        Statistics(9, 1, 1, 1, 1, 1, 700, 1, 1, 1, tuple(range(1, 9)))
    ).pairs_per_number
    assert [each.numbers for each in found] == list(range(1, 9))
    assert (found[0].at_least, found[-1].at_most) == (1, 200)
    assert all(one.at_most + 1 == two.at_least for one, two in pairwise(found))


def test_an_outlook_is_told_where_there_is_one() -> None:
    counts = (9, 1, 1, 1, 1, 1, 700)
    shown = figures.statistics_out(Statistics(*counts, outlook=Outlook(-5, None)))
    assert (shown.growth_per_hour, shown.HasField("time_left")) == (-5, False)
    shown = figures.statistics_out(Statistics(*counts, outlook=Outlook(5, 0)))
    assert shown.HasField("time_left")
    shown = figures.statistics_out(Statistics(*counts, outlook=Outlook(5, 90_000)))
    assert shown.time_left.seconds == 90


def request(**given: Any) -> pb.AdvisePoolSizeRequest:
    fields: dict[str, Any] = {
        "policy": number_pb2.POOL_POLICY_SHARED,
        "orders_per_day": 7,
        "life": Duration(seconds=60),
    }
    return pb.AdvisePoolSizeRequest(**{**fields, **given})


def test_a_load_has_defaults() -> None:
    assert figures.load_in(request()) == Load(Policy.SHARED, 7, 60_000, DAY_MS, 1)
    full = request(cooling=Duration(), most_of_one_party=9)
    assert figures.load_in(full) == Load(Policy.SHARED, 7, 60_000, 0, 9)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("policy", 0),
        ("policy", 99),
        ("orders_per_day", 0),
        ("orders_per_day", 10**12 + 1),
        ("life", Duration()),
        ("life", Duration(seconds=367 * 86_400)),
        ("cooling", Duration(seconds=-1)),
        ("cooling", Duration(seconds=91 * 86_400)),
        ("most_of_one_party", -1),
        ("most_of_one_party", 10**9 + 1),
    ],
)
def test_what_is_no_load_is_refused_by_its_field(field: str, value: Any) -> None:
    with pytest.raises(InvalidArgument) as refused:
        figures.load_in(request(**{field: value}))
    assert refused.value.metadata["field"] == field


def test_an_advice() -> None:
    shown = figures.advice_out(Advice(4, 3, 2, 1))
    assert (shown.places, shown.numbers_of_one_party, shown.numbers, shown.blocks) == (4, 3, 2, 1)
