"""The rule of a decision, reason by reason."""

import pytest

from services.router.domain import Caller, Entry, Refusal, Side
from services.router.rule import TREATMENT, decide, reached_by, treatment
from services.runtime.metrics import ROUTE_REASONS

NUMBER, CALLER = "700123456780001", "+8613812345678"


def entry(
    *,
    active: bool = True,
    side: int = Side.A,
    direction: int = 1,
    mode: int = 1,
    options: str = "",
    box: bytes = b"box",
) -> Entry:
    return Entry(
        "t1", "b1", 1, active, side, mode, direction, 0, 10_000, 1, "taxi", "route/t1/x", box,
        options,
    )  # fmt: skip


def ask(
    number: str | None = NUMBER,
    caller: str | Caller = CALLER,
    stale: bool = False,
    tenants: tuple[str, ...] = ("t1",),
    found: Entry | None = None,
    now_ms: int = 9_999,
) -> Refusal | None:
    return decide(number, caller, stale, tenants, found, now_ms)


def test_connects_an_active_entry_to_the_last_millisecond() -> None:
    assert ask(found=entry(), now_ms=9_999) is None
    assert ask(found=entry(), now_ms=10_000) is Refusal.EXPIRED


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (ask(number=None), Refusal.DIALLED_INVALID),
        (ask(stale=True, found=entry()), Refusal.VIEW_STALE),
        (ask(found=entry()), None),
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


ALWAYS = "windows=1234567@0-1440"
MONDAY = "windows=1@0-1440"  # 1970 began on a Thursday


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (entry(options="ring_seconds=30;sms=0;mark=0"), None),
        (entry(options="start_ms=10000"), Refusal.NOT_STARTED),
        (entry(options="start_ms=9999"), None),
        (entry(options=f"zone=Asia/Shanghai;{ALWAYS}"), None),
        (entry(options=f"zone=Asia/Shanghai;{MONDAY}"), Refusal.OUTSIDE_HOURS),
        (entry(options=f"zone=Asia/Atlantis;{ALWAYS}"), Refusal.UNSUPPORTED),
        (entry(options="colour=red"), Refusal.UNSUPPORTED),
        (entry(mode=7), Refusal.UNSUPPORTED),
        (entry(mode=7, active=False), Refusal.RELEASED),
        (entry(direction=3, options="start_ms=10000"), Refusal.DIRECTION),
        (entry(side=Side.UNKNOWN, options="stranger=closed"), Refusal.NOT_BOUND),
        (entry(side=Side.UNKNOWN, active=False, options="stranger=closed"), Refusal.NOT_BOUND),
    ],
)
def test_modes_and_options(found: Entry, expected: Refusal | None) -> None:
    assert ask(found=found) is expected


AX_CALLEE = "callee_until_ms=10000"
CALL_BACK = "callback_seconds=5;extension=12"


def called(time_ms: int) -> bytes:
    return time_ms.to_bytes(8) + b"box"


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (entry(mode=2, side=Side.UNKNOWN), None),
        (entry(mode=2, side=Side.UNKNOWN, direction=2), Refusal.DIRECTION),
        (entry(mode=2, side=Side.UNKNOWN, active=False), Refusal.RELEASED),
        (entry(mode=2, options=AX_CALLEE), None),
        (entry(mode=2, options="callee_until_ms=9999"), Refusal.NO_CALLEE),
        (entry(mode=2), Refusal.NO_CALLEE),
        (entry(mode=2, options=AX_CALLEE, box=b""), Refusal.NO_CALLEE),
        (entry(mode=2, direction=3, options=AX_CALLEE), Refusal.DIRECTION),
        (entry(mode=4, side=Side.UNKNOWN, options="extension=12"), None),
        (entry(mode=4, options="extension=12", box=b""), Refusal.NO_LAST_CALLER),
        (entry(mode=4, options=CALL_BACK, box=called(5000)), None),
        (entry(mode=4, options=CALL_BACK, box=called(4999)), Refusal.NO_LAST_CALLER),
        (entry(mode=4, options="extension=12", box=called(9999)), Refusal.NO_LAST_CALLER),
        (entry(mode=9, side=Side.UNKNOWN), Refusal.UNSUPPORTED),
        (entry(box=b"", options="ring_seconds=9"), Refusal.NO_CALLEE),
    ],
)
def test_other_modes(found: Entry, expected: Refusal | None) -> None:
    assert ask(found=found) is expected


def test_who_is_no_party_is_known_by_the_extension_or_not_at_all() -> None:
    assert reached_by(entry(mode=4, options="extension=12")) == b"12"
    assert reached_by(entry(mode=2)) == b""
    assert reached_by(entry(options="colour=red")) == b""
    missing = decide(NUMBER, CALLER, False, ("t1",), None, 0, Refusal.EXTENSION_NEEDED)
    assert missing is Refusal.EXTENSION_NEEDED


def test_a_tenant_chooses_what_the_refused_hear() -> None:
    play = entry(options="stranger=closed;stranger_play=1")
    assert treatment(Refusal.NOT_BOUND, play) == (16, "closed", True)
    assert treatment(Refusal.NOT_BOUND, entry(options="stranger=closed")) == (21, "closed", False)
    for ended in (Refusal.EXPIRED, Refusal.RELEASED):
        assert treatment(ended, entry(options="after=over")) == (21, "over", False)
        assert treatment(ended, play) == (21, "expired", False)
        assert treatment(ended, entry(options="colour=red")) == (21, "expired", False)
    assert treatment(Refusal.NOT_BOUND, None) == (21, "not-authorised", False)
    assert treatment(Refusal.DIRECTION, entry(options="after=over")).announcement == (
        "wrong-direction"
    )


def test_every_refusal_has_its_treatment_and_its_metric() -> None:
    assert set(TREATMENT) == set(Refusal)
    assert {*(refusal.name for refusal in Refusal), "CONNECTED"} == ROUTE_REASONS
