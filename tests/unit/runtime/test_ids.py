"""Ids increase strictly, whatever clock and threads do; request ids are UUIDs of version 4."""

import threading
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.clock import ManualClock
from services.runtime.errors import InvalidArgument
from services.runtime.ids import SequentialIds, TimeOrderedIds, made_ms, request_id

UUID4 = "feb39ff2-7e5f-43fd-bac7-a95898852ad5"


def test_ids_are_uuids_of_version_7_with_the_time_in_front() -> None:
    clock = ManualClock(datetime(2026, 3, 1, tzinfo=UTC))
    text = TimeOrderedIds(clock).new()
    parsed = uuid.UUID(text)
    assert str(parsed) == text
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
    assert parsed.int >> 80 == clock.epoch_ms()


def test_when_an_id_was_made_can_be_told() -> None:
    clock = ManualClock(datetime(2026, 3, 1, tzinfo=UTC))
    assert made_ms(TimeOrderedIds(clock).new()) == clock.epoch_ms()
    assert made_ms(UUID4) == made_ms("b1") == 0


def test_ids_increase_inside_a_millisecond_and_beyond_its_counter() -> None:
    ids = TimeOrderedIds(ManualClock())
    made = [ids.new() for _ in range(10_000)]
    assert made == sorted(set(made))


def test_ids_increase_when_the_clock_steps_back() -> None:
    clock = ManualClock()
    ids = TimeOrderedIds(clock)
    first = ids.new()
    clock.set(clock.now() - timedelta(days=1))
    assert ids.new() > first


def test_threads_get_different_ids() -> None:
    ids, made = TimeOrderedIds(), list[str]()
    threads = [
        threading.Thread(target=lambda: made.extend(ids.new() for _ in range(500)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 2000


def test_sequential_ids_are_predictable_uuids() -> None:
    ids = SequentialIds()
    assert ids.new() == "00000000-0000-7000-8000-000000000001"
    assert ids.new() == "00000000-0000-7000-8000-000000000002"
    assert SequentialIds(series=0xAB).new() == "00000000-00ab-7000-8000-000000000001"


@given(st.uuids(version=4), st.booleans())
def test_request_ids_are_lowered(value: uuid.UUID, upper: bool) -> None:
    text = str(value).upper() if upper else str(value)
    assert request_id(text) == str(value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "13812345678",
        "00000000-0000-0000-0000-000000000000",
        "3c807660-e872-11f1-8806-02fc00000001",  # version 1
        UUID4.replace("-", ""),
        f"{{{UUID4}}}",
        f"{UUID4}\n",
        "İ" * 36,
    ],
)
def test_anything_else_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        request_id(text)
    assert caught.value.reason == "REQUEST_ID_INVALID"
    assert not text or text not in f"{caught.value!s}{caught.value.message}"


@given(st.text(max_size=40))
def test_random_text_never_raises_anything_else(text: str) -> None:
    try:
        request_id(text)
    except InvalidArgument:
        return
