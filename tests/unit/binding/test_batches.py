"""Many commands at once, on stores in memory: outcomes are each item's own."""

import asyncio
import uuid
from dataclasses import replace

import pytest

from services.binding.answers import Answers
from services.binding.batches import Batches, Outcome
from services.binding.commands import Create, Find, Release, Update
from services.binding.domain import Binding
from services.runtime.errors import AxbridgeError, InvalidArgument, Unavailable
from tests.unit.binding.memory import DAY_MS, TENANT
from tests.unit.binding.test_handlers import FAR, C, Subject


@pytest.fixture
def s() -> Subject:
    return Subject()


@pytest.fixture
def batches(s: Subject) -> Batches:
    return Batches(s.handlers, s.changes, Answers(s.bindings, s.clock), s.clock)


def shown(outcome: Outcome) -> str:
    return str(outcome) if isinstance(outcome, Exception) else outcome.state.name


async def test_each_item_has_its_own_outcome_in_its_place(s: Subject, batches: Batches) -> None:
    made = await s.handlers.create(s.wish(), FAR)
    same = s.wish()
    outcomes = await batches.run(
        [
            s.wish(),
            InvalidArgument("PARTIES_EQUAL"),
            Update(TENANT, made.id, str(uuid.uuid4()), 9, s.clock.epoch_ms() + DAY_MS),
            same,
            Release(TENANT, "unknown", 0),
            same,
            replace(same, a=C),
            Release(TENANT, made.id, 0),
        ],
        FAR,
    )
    assert [shown(each) for each in outcomes[:3]] == [
        "ACTIVE", "PARTIES_EQUAL", "VERSION_STALE version=1"
    ]  # fmt: skip
    assert shown(outcomes[4]) == "BINDING_NOT_FOUND binding=unknown"
    assert outcomes[3] == outcomes[5]
    assert shown(outcomes[6]) == "REQUEST_ID_REUSED"
    assert shown(outcomes[7]) == "RELEASED"


async def test_a_defect_in_one_item_harms_no_other(s: Subject, batches: Batches) -> None:
    made = await s.handlers.create(s.wish(), FAR)
    wishes = [Release(TENANT, "broken", 0), Release(TENANT, made.id, 0)]
    s.bindings.rows["broken"] = "no binding at all"  # type: ignore[assignment]
    first, second = await batches.run(wishes, FAR)
    assert isinstance(first, AttributeError)
    assert shown(second) == "RELEASED"


async def test_kafka_is_waited_for_once_and_who_has_it_is_told(
    s: Subject, batches: Batches, monkeypatch: pytest.MonkeyPatch
) -> None:
    wishes = [s.wish() for _ in range(4)]
    await batches.run(wishes, FAR)
    assert s.bindings.waited == [4, 3, 2, 1]  # the newest first: the others do not wait any more

    async def published(sequence: int, seconds: float) -> None:
        if sequence > 6:
            raise Unavailable("LOG_UNAVAILABLE")

    monkeypatch.setattr(s.bindings, "published", published)
    outcomes = await batches.run([s.wish() for _ in range(4)], FAR)
    assert sorted(shown(each) for each in outcomes) == ["ACTIVE"] * 2 + ["LOG_UNAVAILABLE"] * 2


async def test_an_order_is_released_page_by_page_and_nothing_else(
    s: Subject, batches: Batches
) -> None:
    made = [await s.handlers.create(s.wish(), FAR) for _ in range(5)]
    other = await s.handlers.create(s.wish(terms=replace(made[0].terms, order_id="order-2")), FAR)
    await s.changes.release(TENANT, made[1].id, 0, FAR)
    token, seen = "", list[tuple[str, Outcome]]()
    for _ in range(3):
        page, token = await batches.release_order(Find(TENANT, "order-1", "order", 2, token), FAR)
        seen += page
    assert token == ""
    assert [each for each, _ in seen] == [each.id for each in made]
    assert {shown(outcome) for _, outcome in seen} == {"RELEASED"}
    assert (await s.handlers.get(TENANT, other.id)).live
    again, _ = await batches.release_order(Find(TENANT, "order-1", "order", 9, ""), FAR)
    assert again == seen
    nobody, _ = await batches.release_order(Find("other", "order-1", "order", 9, ""), FAR)
    assert nobody == []


async def test_whatever_was_applied_when_the_answer_got_lost_is_applied_once(
    s: Subject, batches: Batches
) -> None:
    wishes: list[Create] = [s.wish() for _ in range(6)]
    s.bindings.fail = ("after", Unavailable("STORE_UNAVAILABLE"))
    first = await batches.run(wishes, FAR)
    assert sum(isinstance(each, AxbridgeError) for each in first) == 1
    second = await batches.run(wishes, FAR)
    assert all(isinstance(each, Binding) for each in second)
    assert len(s.bindings.rows) == 6
    runs = await asyncio.gather(*(batches.run(wishes, FAR) for _ in range(3)))
    assert all(run == second for run in runs)
