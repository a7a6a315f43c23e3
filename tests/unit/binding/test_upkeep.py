"""A withdrawn consent's bindings drain once, whatever happens meanwhile."""

from dataclasses import replace
from datetime import timedelta

import pytest

from services.binding import sweeper
from services.binding.consent import Consent, ConsentState
from services.binding.domain import Answered, Reason
from services.binding.ports import Lost, Stored
from services.binding.upkeep import Drain
from services.runtime.clock import ManualClock
from services.runtime.errors import DataLoss, Unavailable
from services.runtime.metrics import Metrics
from tests.unit.binding.memory import DAY_MS, MemoryBindings, binding
from tests.unit.binding.memory_consents import MemoryConsents, consent

GRACE = 600_000


class Subject:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.bindings = MemoryBindings(self.clock)
        self.consents = MemoryConsents(self.bindings)
        self.drain = Drain(self.consents, self.bindings, self.clock)
        for place in range(450):  # more than two pages
            self.add(f"b{place:03d}")
        self.add("other", tag_a=b"c" * 16)

    def add(self, identity: str, **changes: object) -> None:
        made = binding(self.clock, identity, **changes)
        self.bindings.rows[identity] = Stored(made, 0, None)
        self.bindings.orders[identity] = ""

    async def withdrawn(self) -> Consent:
        now = self.clock.epoch_ms()
        made = consent(now, "c1")
        asked = made.asked(Answered("w", b"h" * 16, now, 0), "1", "zh")
        gone = asked.confirmed(Answered("c", b"h" * 16, now, 0), GRACE)
        for version, before in ((made, None), (asked, made.mark), (gone, asked.mark)):
            await self.consents.put(version, None, before)
        return gone

    def versions(self) -> set[int]:
        return {row.binding.version for i, row in self.bindings.rows.items() if i.startswith("b")}


@pytest.fixture
def s() -> Subject:
    return Subject()


async def test_all_drain_then_the_consent_says_so(s: Subject) -> None:
    gone = await s.withdrawn()
    until = s.clock.epoch_ms() + GRACE
    await s.drain(gone)
    assert s.versions() == {2}
    for identity, row in s.bindings.rows.items():
        assert row.binding.live
        drains = 0 if identity == "other" else until
        assert row.binding.drain_ms == drains
        if drains:
            assert row.binding.terms.expire_ms == until
    assert s.consents.rows["c1"].state is ConsentState.WITHDRAWN
    with pytest.raises(Lost):  # somebody else has done it
        await s.drain(gone)
    assert s.versions() == {2}


async def test_after_the_grace_period_they_are_released_for_that_reason(s: Subject) -> None:
    now = s.clock.epoch_ms()
    short = replace(binding(s.clock, "x").terms, expire_ms=now + 1000)
    s.add("short", terms=short)
    await s.drain(await s.withdrawn())
    sweep = sweeper.expiry(s.bindings, s.clock, Metrics("binding")).sweep
    s.clock.advance(timedelta(seconds=1))
    assert (await sweep())[0] == 1
    assert s.bindings.rows["short"].binding.reason is Reason.EXPIRED
    s.clock.advance(timedelta(milliseconds=GRACE - 1001))
    assert (await sweep())[0] == 0
    s.clock.advance(timedelta(milliseconds=1))
    assert (await sweep())[0] == 450
    reasons = {row.binding.reason for i, row in s.bindings.rows.items() if i.startswith("b")}
    assert reasons == {Reason.CONSENT_WITHDRAWN}
    assert s.bindings.rows["other"].binding.live


async def test_what_was_broken_off_goes_on(s: Subject) -> None:
    gone = await s.withdrawn()
    s.bindings.fail = ("after", Unavailable("STORE_UNAVAILABLE"))
    with pytest.raises(Unavailable):
        await s.drain(gone)
    await s.drain(gone)
    assert s.versions() == {2}


async def test_an_extension_that_was_faster_drains_too(
    s: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, raced = s.bindings.release, list[str]()

    async def slow(old: Stored, new: object) -> int:
        if not raced:
            raced.append(old.binding.id)
            now = s.clock.epoch_ms()
            request = Answered("late", b"u" * 16, now, 0)
            await s.bindings.change(old, old.binding.updated(1, now + 9 * DAY_MS, request))
        return await release(old, new)  # type: ignore[arg-type]

    monkeypatch.setattr(s.bindings, "release", slow)
    gone = await s.withdrawn()
    await s.drain(gone)
    late = s.bindings.rows[raced[0]].binding
    assert gone.withdrawal is not None
    assert (late.version, late.drain_ms) == (3, gone.withdrawal.drain_ms)


async def test_a_second_withdrawal_only_brings_the_end_nearer(s: Subject) -> None:
    now = s.clock.epoch_ms()
    s.add("near", drain_ms=now + GRACE - 1)
    s.add("far", drain_ms=now + GRACE + 1)
    await s.drain(await s.withdrawn())
    assert s.bindings.rows["near"].binding.version == 1
    assert s.bindings.rows["far"].binding.drain_ms == now + GRACE


async def test_an_unreadable_binding_does_not_keep_the_others(
    s: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    get = s.bindings.get

    async def broken(identity: str) -> Stored | None:
        if identity == "b003":
            raise DataLoss("SEAL_BROKEN")
        return await get(identity)

    monkeypatch.setattr(s.bindings, "get", broken)
    await s.drain(await s.withdrawn())
    assert s.versions() == {1, 2}
    assert s.consents.rows["c1"].state is ConsentState.WITHDRAWN
