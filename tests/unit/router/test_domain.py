"""The rule of a decision, reason by reason, and that its numbers are those of the protos."""

import pytest
from axbridge.binding.v1 import binding_pb2
from axbridge.router.v1 import call_pb2, events_pb2

from services.router.domain import (
    TREATMENT,
    Call,
    Caller,
    Direction,
    Entry,
    Kind,
    Leg,
    Refusal,
    Side,
    Staleness,
    decide,
)
from services.runtime.metrics import ROUTE_REASONS

NUMBER, CALLER = "700123456780001", "+8613812345678"
FRESH = Staleness(age_ms=0, max_ms=1000)


def entry(*, active: bool = True, side: int = Side.A, direction: int = 1) -> Entry:
    return Entry("t1", "b1", 1, active, side, 1, direction, 0, 10_000, 1, "taxi", "route/t1/x", b"")


def ask(
    number: str | None = NUMBER,
    caller: str | Caller = CALLER,
    staleness: Staleness = FRESH,
    tenants: tuple[str, ...] = ("t1",),
    found: Entry | None = None,
    now_ms: int = 9_999,
) -> Refusal | None:
    return decide(number, caller, staleness, tenants, found, now_ms)


def test_connects_an_active_entry_to_the_last_millisecond() -> None:
    assert ask(found=entry(), now_ms=9_999) is None
    assert ask(found=entry(), now_ms=10_000) is Refusal.EXPIRED


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (ask(number=None), Refusal.DIALLED_INVALID),
        (ask(staleness=Staleness(1001, 1000), found=entry()), Refusal.VIEW_STALE),
        (ask(staleness=Staleness(1000, 1000), found=entry()), None),
        (ask(tenants=()), Refusal.BLOCK_FOREIGN),
        (ask(caller=Caller.WITHHELD), Refusal.CALLER_WITHHELD),
        (ask(caller=Caller.INVALID), Refusal.CALLER_INVALID),
        (ask(), Refusal.NOT_BOUND),
        (ask(found=entry(active=False), now_ms=99_999), Refusal.RELEASED),
    ],
)
def test_reasons(answer: Refusal | None, expected: Refusal | None) -> None:
    assert answer is expected


@pytest.mark.parametrize(
    ("direction", "side", "connects"),
    [
        (0, Side.A, True), (1, Side.B, True), (2, Side.A, True), (2, Side.B, False),
        (3, Side.A, False), (3, Side.B, True), (9, Side.A, False),
    ],
)  # fmt: skip
def test_direction(direction: int, side: int, connects: bool) -> None:
    expected = None if connects else Refusal.DIRECTION
    assert ask(found=entry(direction=direction, side=side)) is expected


def test_numbers_are_those_of_the_protos() -> None:
    for ours, theirs, prefix in (
        (Refusal, call_pb2.RefusalReason, "REFUSAL_REASON_"),
        (Leg, call_pb2.CallLeg, "CALL_LEG_"),
        (Kind, call_pb2.CallEventKind, "CALL_EVENT_KIND_"),
        (Direction, binding_pb2.CallDirection, "CALL_DIRECTION_"),
        (Side, events_pb2.CallingSide, "CALLING_SIDE_"),
    ):
        named = {name.removeprefix(prefix): number for name, number in theirs.items()}
        assert {m.name: m.value for m in ours if m.value} == {
            name: number for name, number in named.items() if number
        }


def test_every_refusal_has_its_treatment_and_its_metric() -> None:
    assert set(TREATMENT) == set(Refusal)
    assert {*(refusal.name for refusal in Refusal), "CONNECTED"} == ROUTE_REASONS


def test_no_number_shows() -> None:
    call = Call("cmcc", "c1", "13812345678", NUMBER, "")
    assert "138" not in repr(call)
