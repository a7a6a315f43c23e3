"""Call events in, and what is parked instead."""

import pytest

from services.runtime.errors import Malformed
from services.runtime.record import Record
from tests.unit.router.callrecords import EVENTS, NOW, record, routed


def test_what_cannot_be_applied_is_malformed() -> None:
    moved = routed("c1")
    moved.fact.call_id = "c2"  # sealed to another call
    early = routed("c1")
    early.fact.time.seconds = -5
    with pytest.raises(Malformed, match="CALL_SECRETS_BROKEN"):
        EVENTS.decode(record(0, moved))
    with pytest.raises(Malformed, match="CALL_EVENT_MALFORMED"):
        EVENTS.decode(record(0, early))
    good = record(0, routed("c1"))
    for key, value in ((b"cmcc/other", good.value), (b"cmcc", good.value), (good.key, b"\xff"),
                       (good.key, None), (b"\xff/c1", good.value)):  # fmt: skip
        with pytest.raises(Malformed):
            EVENTS.decode(Record("calls", 0, 0, key, value, good.headers, NOW))
