"""The use cases with fakes: recorded before answered, connected only if opened."""

from collections.abc import Sequence

import pytest

from services.router.directory import parse
from services.router.domain import Call, Decision, Entry, LastCaller, Progress, Refusal, Side
from services.router.handlers import Router
from services.router.ports import Found, KeyUnavailable
from services.router.scanning import Scanning
from services.router.texts import Text
from services.runtime.clock import ManualClock
from services.runtime.errors import ResourceExhausted
from tests.unit.router.platforms import TEXT, MemoryPlatforms

NUMBER, CALLEE = "700123456780001", "+8613912345678"
CLOCK = ManualClock()
NOW = CLOCK.epoch_ms()
ENTRY = Entry("t1", "b1", 3, True, Side.A, 1, 1, 0, NOW + 1000, 1, "taxi", "k", b"box")


class MemoryRoutes:
    def __init__(self, found: Found, fresh_ms: int = NOW) -> None:
        self.found, self.fresh, self.asked = found, fresh_ms, list[tuple[str, str]]()

    def find(self, number: str, caller: str, extension: str = "") -> Found:
        self.asked.append((number, caller))
        return self.found

    def fresh_ms(self) -> int:
        return self.fresh

    denying: Sequence[str] = ()

    def denied(self, *call: object) -> bool:
        raise AssertionError("nobody has an entry")


class DenyingRoutes(MemoryRoutes):
    """Of tenants that have entries; one of them holds for a call."""

    def __init__(self, *held: object, tenants: Sequence[str] = ("t1",)) -> None:
        super().__init__(BOUND)
        self.held, self.denying, self.looked = held, tenants, 0

    def denied(self, *call: object) -> bool:
        self.looked += 1
        return call == self.held


class MemoryOpener:
    def __init__(self, callee: str | None = CALLEE) -> None:
        self._callee = callee

    def callee(self, number: str, entry: Entry, tag: bytes) -> str:
        if self._callee is None:
            raise KeyUnavailable
        return self._callee

    def sealed(self, number: str, entry: Entry, callee: str, caller: str, time_ms: int) -> bytes:
        return f"{caller} for {callee}".encode()


class MemoryRecorder:
    def __init__(self) -> None:
        self.texts: list[tuple[int, int]] = []
        self.kept: list[Decision | Progress | LastCaller] = []
        self.full = False

    def decided(self, decision: Decision) -> None:
        if self.full:
            raise ResourceExhausted("JOURNAL_FULL")
        self.kept.append(decision)

    def messaged(self, decision: Decision, text: Text) -> None:
        self.decided(decision)
        self.texts.append((text.encoding, text.parts))

    def called(self, last: LastCaller) -> None:
        self.decided(last)  # type: ignore[arg-type]

    def progressed(self, progress: Progress, time_ms: int) -> None:
        assert time_ms == NOW
        self.kept.append(progress)


BOUND = Found(["t1"], "t1", b"T" * 16, ENTRY)


def router(
    found: Found = BOUND, *, fresh_ms: int = NOW, callee: str | None = CALLEE
) -> tuple[Router, MemoryRoutes, MemoryRecorder]:
    routes, recorder = MemoryRoutes(found, fresh_ms), MemoryRecorder()
    return Router(routes, MemoryOpener(callee), recorder, CLOCK, 900_000), routes, recorder


def call(caller: str = "13812345678", dialled: str = NUMBER) -> Call:
    return Call("cmcc", "c1", caller, dialled, "")


def test_connects_and_records_what_it_answers() -> None:
    handler, routes, recorder = router()
    decision = handler.route(call())
    assert decision.refusal is None
    assert decision.callee == "+8613912345678"
    assert recorder.kept == [decision]
    assert routes.asked == [(NUMBER, "+8613812345678")]


def test_a_last_caller_is_kept_before_the_call_and_only_where_a_may_call_back() -> None:
    axe = ENTRY._replace(mode=4, caller_side=0, options="callback_seconds=60;extension=12")
    handler, _, recorder = router(BOUND._replace(entry=axe))
    decision = handler.route(call())
    box = b"+8613812345678 for +8613912345678"
    last = LastCaller("t1", "b1", NUMBER, NOW, NOW + 60_000, "k", box)
    assert recorder.kept == [last, decision]
    for found in (axe._replace(options="extension=12"), axe._replace(active=False), ENTRY):
        handler, _, recorder = router(BOUND._replace(entry=found))
        assert recorder.kept == [handler.route(call())]
    handler, _, recorder = router(BOUND._replace(entry=axe))
    recorder.full = True
    with pytest.raises(ResourceExhausted):
        handler.route(call())


def test_what_cannot_be_recorded_is_not_answered() -> None:
    handler, _, recorder = router()
    recorder.full = True
    with pytest.raises(ResourceExhausted):
        handler.route(call())


def test_a_callee_that_does_not_open_is_refused_and_recorded() -> None:
    handler, _, recorder = router(callee=None)
    decision = handler.route(call())
    assert decision.refusal is Refusal.KEY_UNAVAILABLE
    assert decision.callee == ""
    assert recorder.kept == [decision]


def test_a_view_that_never_was_fresh_refuses() -> None:
    handler, _, _ = router(fresh_ms=0)
    assert handler.route(call()).refusal is Refusal.VIEW_STALE
    handler, _, _ = router(fresh_ms=NOW - 900_001)
    assert handler.route(call()).refusal is Refusal.VIEW_STALE
    handler, _, _ = router(fresh_ms=NOW + 50)  # clocks differ a little
    assert handler.route(call()).age_ms == 0


def test_digits_that_are_no_number_are_not_looked_up() -> None:
    handler, routes, recorder = router()
    decision = handler.route(call(dialled="4008123123"))
    assert decision.refusal is Refusal.DIALLED_INVALID
    assert (decision.number, decision.tenant, routes.asked) == ("", "", [])
    assert recorder.kept == [decision]


def test_a_withheld_caller_is_refused_with_the_tenant_known() -> None:
    handler, routes, _ = router(Found(["t1"], "t1", b"", None))
    decision = handler.route(call(caller="anonymous"))
    assert decision.refusal is Refusal.CALLER_WITHHELD
    assert (decision.tenant, decision.caller, routes.asked) == ("t1", "", [(NUMBER, "")])


def test_an_explanation_is_the_same_decision_as_of_a_time_and_unrecorded() -> None:
    handler, _, recorder = router()
    explained = handler.explain(call())
    assert recorder.kept == []
    assert explained == handler.route(call())
    later = handler.explain(call(), ENTRY.expire_ms)
    assert (later.refusal, later.callee) == (Refusal.EXPIRED, "")
    assert (later.time_ms, later.age_ms) == (ENTRY.expire_ms, 0)
    stale, _, _ = router(fresh_ms=NOW - 900_001)
    assert stale.explain(call(), NOW - 900_001).refusal is Refusal.VIEW_STALE
    denied = Router(DenyingRoutes(NUMBER, "t1", b"T" * 16, CALLEE, NOW + 1), MemoryOpener(),
                    recorder, CLOCK, 900_000)  # fmt: skip
    assert denied.explain(call(), NOW + 1).refusal is Refusal.BLACKLISTED


def test_a_number_with_extensions_asks_for_one() -> None:
    handler, _, recorder = router(Found(["t1"], "t1", b"T" * 16, None, True))
    assert handler.route(call()).refusal is Refusal.EXTENSION_NEEDED
    asked = call()._replace(extension="9")
    assert handler.route(asked).refusal is Refusal.EXTENSION_UNKNOWN
    assert len(recorder.kept) == 2


def test_who_dials_at_random_is_refused_unlooked_and_recorded() -> None:
    routes, recorder = MemoryRoutes(Found(["t1"], "t1", b"T" * 16, None)), MemoryRecorder()
    handler = Router(routes, MemoryOpener(), recorder, CLOCK, 900_000, scanning=Scanning(limit=2))
    handler.explain(call())  # a dry run does not count
    assert [handler.route(call()).refusal for _ in range(3)] == [
        Refusal.NOT_BOUND, Refusal.NOT_BOUND, Refusal.SCANNING,
    ]  # fmt: skip
    last = recorder.kept[-1]
    assert isinstance(last, Decision)
    assert (last.number, last.tenant, last.entry, last.callee) == (NUMBER, "", None, "")
    assert len(routes.asked) == 3
    routes.found = BOUND
    assert handler.route(call(caller="13912345678")).refusal is None
    assert handler.route(call(caller="anonymous")).refusal is not Refusal.SCANNING
    assert handler.route(call(dialled="1")).refusal is Refusal.SCANNING


def test_reports_are_recorded() -> None:
    handler, _, recorder = router()
    progress = Progress("cmcc", "c1", 1, 1, 3, NOW, 16, 1)
    handler.report(progress)
    assert recorder.kept == [progress]


def test_a_denied_call_is_refused_only_where_it_would_connect() -> None:
    def decide(routes: MemoryRoutes, opener: MemoryOpener) -> Decision:
        recorder = MemoryRecorder()
        decision = Router(routes, opener, recorder, CLOCK, 900_000).route(call())
        assert recorder.kept == [decision]
        return decision

    held = (NUMBER, "t1", b"T" * 16, CALLEE, NOW)
    decision = decide(DenyingRoutes(*held), MemoryOpener())
    assert (decision.refusal, decision.callee) == (Refusal.BLACKLISTED, "")
    assert decision.entry is ENTRY
    assert decide(DenyingRoutes(), MemoryOpener()).callee == CALLEE
    elsewhere = DenyingRoutes(*held, tenants=["t2"])
    assert decide(elsewhere, MemoryOpener()).refusal is None
    shut = DenyingRoutes(*held)
    assert decide(shut, MemoryOpener(None)).refusal is Refusal.KEY_UNAVAILABLE
    over = DenyingRoutes(*held)
    over.found = BOUND._replace(entry=ENTRY._replace(expire_ms=NOW))
    assert decide(over, MemoryOpener()).refusal is Refusal.EXPIRED
    assert elsewhere.looked + shut.looked + over.looked == 0


def test_another_platforms_number_is_sent_on_and_never_in_circles() -> None:
    foreign, recorder = "700888888880001", MemoryRecorder()
    handler = Router(
        MemoryRoutes(Found((), "", b"", None)), MemoryOpener(), recorder, CLOCK, 900_000,
        platforms=MemoryPlatforms(parse(TEXT)),
    )  # fmt: skip
    sent_on = handler.route(call(dialled=foreign))
    assert sent_on.refusal is Refusal.TRANSFERRED
    assert sent_on.transfer == ("other", "192.0.2.1:5070", ("own",))
    assert recorder.kept == [sent_on]
    for path, expected in (
        (("third",), Refusal.TRANSFERRED),
        (("own",), Refusal.TRANSFER_LOOP),
        (("third", "own", "other"), Refusal.TRANSFER_LOOP),
        (("third", "fourth", "fifth"), Refusal.TRANSFER_LOOP),
    ):
        asked = call(dialled=foreign)._replace(transferred_by=path)
        assert handler.route(asked).refusal is expected
    assert handler.route(call()).refusal is Refusal.BLOCK_FOREIGN  # ours, and not in the view
    assert handler.route(call(dialled="700000000000001")).refusal is Refusal.BLOCK_FOREIGN


@pytest.mark.parametrize("dialled", ["110", "119", "120", "112", "86110", "12315", "95588"])
def test_short_numbers_are_never_routed(dialled: str) -> None:
    handler, routes, _ = router()
    assert handler.route(call(dialled=dialled)).refusal is Refusal.SHORT_NUMBER
    assert routes.asked == []
