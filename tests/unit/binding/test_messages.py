"""A binding as messages, and back."""

from dataclasses import replace

import pytest
from axbridge.binding.v1 import events_pb2
from hypothesis import given
from hypothesis import strategies as st

from services.binding.domain import Answered, Direction, Reason
from services.binding.messages import Copies, from_record, read_route, read_state
from services.binding.records import Records
from services.runtime.aead import Sealed
from services.runtime.clock import ManualClock
from services.runtime.errors import Malformed
from services.runtime.options import Options
from tests.unit.binding.memory import binding
from tests.unit.runtime.test_options import OPTIONS

CLOCK = ManualClock()
BOX = Sealed("purge/didi/202607", b"\x01box")
COPIES = Copies(BOX, BOX, None, BOX)
RECORDS = Records({
    "binding.bindings.v1": 4, "binding.state.v1": 8, "binding.routes.v1": 16, "binding.keys.v1": 1,
})  # fmt: skip


@given(
    direction=st.sampled_from(Direction),
    minutes=st.integers(0, 1440),
    exclusive=st.booleans(),
    cooling=st.integers(0, 10**10),
    more=st.lists(st.binary(min_size=16, max_size=16), max_size=3),
    ended=st.booleans(),
    options=OPTIONS,
)
def test_a_record_brings_the_binding_back(
    direction: Direction, minutes: int, exclusive: bool, cooling: int, more: list[bytes],
    ended: bool, options: Options,
) -> None:  # fmt: skip
    made = binding(CLOCK, "b1", exclusive=exclusive, cooling_ms=cooling)
    made = replace(
        made,
        terms=replace(made.terms, direction=direction, max_call_minutes=minutes, options=options),
        requests=(*made.requests, *(Answered("r", h, CLOCK.epoch_ms(), 2) for h in more)),
    )
    if ended:
        made = made.released(CLOCK.epoch_ms(), Reason.EXPIRED)
    record, _ = RECORDS.entry(made, COPIES)
    message = events_pb2.BindingRecord.FromString(record)
    assert from_record(message, "order-1", b"data") == (made, COPIES)
    assert b"order-1" not in record
    assert message.route.options == options.text


def test_what_does_not_decode_is_malformed() -> None:
    strange = events_pb2.BindingRecord(route=events_pb2.Route(options="colour=red", direction=1))  # type: ignore[arg-type]
    with pytest.raises(Malformed):
        from_record(strange)
    for read in (read_state, read_route):
        with pytest.raises(Malformed):
            read(b"\xff\xff")
    cell = RECORDS.cell("c0", 3, 5)
    assert (cell.key, read_state(cell.value)) == (b"cell/c0", None)
