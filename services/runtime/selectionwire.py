"""Selections as messages and back. Pure; total both ways.

Refuses a value outside the contract, by its field. Invariant: what was read and is shown again says
the same.
"""

from axbridge.type.v1 import selection_pb2

from services.runtime.errors import InvalidArgument
from services.runtime.phone import is_middle_number
from services.runtime.selection import MAX_AREAS, Selection, is_area

_STRICT, _PREFER = selection_pb2.AREA_MATCH_STRICT, selection_pb2.AREA_MATCH_UNSPECIFIED
_SAME, _AVOID = selection_pb2.STICKINESS_SAME, selection_pb2.STICKINESS_UNSPECIFIED
_RANDOM, _PACKED = (
    selection_pb2.SELECTION_ORDER_RANDOM,
    selection_pb2.SELECTION_ORDER_UNSPECIFIED,
)


def read(message: selection_pb2.Selection, field: str) -> Selection:
    """Which number is wanted; `field`: where the message stands. Raises InvalidArgument
    (NUMBER_INVALID, AREA_INVALID, INVALID_FIELD)."""
    if len(message.areas) > MAX_AREAS:
        raise _invalid(f"{field}.areas", "at most 8 areas")
    known = (
        (message.area_match, selection_pb2.AreaMatch, "area_match"),
        (message.stickiness, selection_pb2.Stickiness, "stickiness"),
        (message.order, selection_pb2.SelectionOrder, "order"),
    )
    for value, enum, name in known:
        if value not in enum.values():
            raise _invalid(f"{field}.{name}", "not a value of the contract")
    if message.number and not is_middle_number(message.number):
        raise InvalidArgument("NUMBER_INVALID", "not 15 digits that begin with 700")
    if not all(map(is_area, message.areas)):
        raise InvalidArgument(
            "AREA_INVALID", "not a province or city of 6 digits", field=f"{field}.areas"
        )
    selection = Selection(
        message.number,
        tuple(message.areas),
        strict=message.area_match == _STRICT,
        sticky=message.stickiness == _SAME,
        random=message.order == _RANDOM,
    )
    if selection.number and (selection.areas or selection.random):
        raise _invalid(f"{field}.number", "a number by name has no areas and no order")
    return selection


def shown(selection: Selection) -> selection_pb2.Selection:
    """The message."""
    return selection_pb2.Selection(
        number=selection.number,
        areas=selection.areas,
        area_match=_STRICT if selection.strict else _PREFER,
        stickiness=_SAME if selection.sticky else _AVOID,
        order=_RANDOM if selection.random else _PACKED,
    )


def _invalid(field: str, text: str) -> InvalidArgument:
    return InvalidArgument("INVALID_FIELD", text, field=field)
