"""Selections as messages."""

import pytest
from axbridge.type.v1 import selection_pb2
from hypothesis import given

from services.runtime import selectionwire
from services.runtime.errors import InvalidArgument
from services.runtime.selection import ANY, Selection
from tests.unit.runtime.test_selection import SELECTIONS

NUMBER = "700123456780001"


def test_selections() -> None:
    message = selection_pb2.Selection(
        areas=["440300", "110000"],
        area_match=selection_pb2.AREA_MATCH_STRICT,
        stickiness=selection_pb2.STICKINESS_SAME,
        order=selection_pb2.SELECTION_ORDER_RANDOM,
    )
    expected = Selection("", ("440300", "110000"), True, True, True)
    assert selectionwire.read(message, "selection") == expected
    assert selectionwire.read(selection_pb2.Selection(), "selection") == ANY
    for bad, reason in (
        (selection_pb2.Selection(number="123"), "NUMBER_INVALID"),
        (selection_pb2.Selection(areas=["440301"]), "AREA_INVALID"),
        (selection_pb2.Selection(areas=["440300"] * 9), "INVALID_FIELD"),
        (selection_pb2.Selection(number=NUMBER, areas=["440300"]), "INVALID_FIELD"),
        (selection_pb2.Selection(area_match=7), "INVALID_FIELD"),  # type: ignore[arg-type]
        (selection_pb2.Selection(stickiness=7), "INVALID_FIELD"),  # type: ignore[arg-type]
        (selection_pb2.Selection(order=7), "INVALID_FIELD"),  # type: ignore[arg-type]
    ):
        with pytest.raises(InvalidArgument, match=reason):
            selectionwire.read(bad, "selection")


@given(SELECTIONS.filter(lambda s: not (s.number and (s.areas or s.random))))
def test_what_is_shown_reads_the_same(selection: Selection) -> None:
    assert selectionwire.read(selectionwire.shown(selection), "selection") == selection
