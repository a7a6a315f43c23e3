"""What stands, what a repetition is told, and for how long Kafka is waited for."""

import pytest

from services.binding.answers import Answers, Applied
from services.binding.domain import Reason
from services.binding.ports import Answer
from services.runtime.errors import Aborted, AlreadyExists, NotFound
from tests.unit.binding.memory import TENANT
from tests.unit.binding.test_handlers import FAR, Subject


async def test_a_binding_of_another_tenant_or_an_erased_one_is_not_there() -> None:
    s = Subject()
    answers = Answers(s.bindings, s.clock)
    made = await s.handlers.create(s.wish(), FAR)
    assert (await answers.stored(TENANT, made.id)).binding == made
    with pytest.raises(NotFound):
        await answers.stored("other", made.id)
    stored = s.bindings.rows[made.id]
    erased = made.released(s.clock.epoch_ms(), Reason.ERASURE)
    await s.bindings.release(stored, erased)
    with pytest.raises(NotFound):
        await answers.stored(TENANT, made.id)
    body = made.requests[0].body_hash
    with pytest.raises(NotFound):
        await answers.again(Answer(body, made.id), body)


async def test_a_repetition_with_another_body_is_refused() -> None:
    s = Subject()
    answers = Answers(s.bindings, s.clock)
    made = await s.handlers.create(s.wish(), FAR)
    known = s.bindings.requests[TENANT, made.requests[0].request_id]
    assert await answers.again(known, known.body_hash) == Applied(made, 1)
    with pytest.raises(AlreadyExists, match="REQUEST_ID_REUSED"):
        await answers.again(known, b"x" * 16)


async def test_what_refuses_a_request_gives_way_to_its_answer() -> None:
    s = Subject()
    answers = Answers(s.bindings, s.clock)
    made = await s.handlers.create(s.wish(), FAR)
    request, why = made.requests[0], Aborted("CONFLICT")
    told = await answers.instead(why, TENANT, request.request_id, request.body_hash)
    assert told.binding == made
    with pytest.raises(Aborted):
        await answers.instead(why, TENANT, "never-came", request.body_hash)


def test_the_wait_ends_a_little_before_the_deadline_and_within_5_s() -> None:
    s = Subject()
    answers = Answers(s.bindings, s.clock)
    now = s.clock.monotonic()
    assert answers.left(FAR) == 5.0
    assert answers.left(now + 2) == pytest.approx(1.9)
    assert answers.left(now) == 0.0
