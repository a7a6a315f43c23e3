"""BindingOptions to the domain and back, and each refusal's reason."""

from typing import Any

import pytest
from axbridge.binding.v1 import binding_pb2 as pb
from hypothesis import given
from hypothesis import strategies as st

from services.binding import choices
from services.binding.domain import Direction
from services.runtime.errors import InvalidArgument
from services.runtime.options import NONE, Options, Window, parse
from tests.unit.runtime.test_options import OPTIONS

TOLD = pb.RecordingAnnouncements(to_caller="rec-1", to_callee="rec-2")
HOURS = [pb.TimeWindow(start_minute=540, end_minute=1080)]


def test_what_was_chosen_is_read_and_shown_as_given() -> None:
    message = pb.BindingOptions(
        time_zone="Asia/Shanghai",
        windows=[*HOURS, pb.TimeWindow(weekdays=[6, 7], start_minute=1320, end_minute=60)],
        recording=pb.RecordingOption(calls_of_a=TOLD, calls_of_b=TOLD),
        sms=pb.SMS_POLICY_REFUSED,
        mark=pb.MARK_POLICY_HIDDEN,
        unknown_caller=pb.UNKNOWN_CALLER_POLICY_PLAY_AND_RELEASE,
        unknown_caller_announcement="closed-1",
        ended_announcement="order-over",
    )
    message.start_time.FromMilliseconds(1_800_000_000_123)
    message.ring_timeout.seconds, message.sliding_life.seconds = 30, 3600
    made = choices.read(message, Direction.BOTH)
    assert made == Options(
        1_800_000_000_123, "Asia/Shanghai",
        (Window("1234567", 540, 1080), Window("67", 1320, 60)), 30,
        ("rec-1", "rec-2", "rec-1", "rec-2"), False, False, "closed-1", True, "order-over", 3600,
    )  # fmt: skip
    assert parse(made.text) == made
    assert choices.shown(made) == message


def test_what_is_as_the_default_is_not_chosen() -> None:
    message = pb.BindingOptions(sms=pb.SMS_POLICY_ALLOWED, mark=pb.MARK_POLICY_SHOWN)
    assert choices.read(message, Direction.BOTH) == NONE
    assert choices.shown(NONE) is None


@given(OPTIONS)
def test_options_that_stand_can_be_shown(options: Options) -> None:
    assert isinstance(choices.shown(options), pb.BindingOptions | None)


@given(st.binary(max_size=120))
def test_any_message_has_options_or_a_reason(raw: bytes) -> None:
    message = pb.BindingOptions()
    try:
        message.ParseFromString(raw)
    except Exception:
        return
    try:
        made = choices.read(message, Direction.BOTH)
    except InvalidArgument:
        return
    assert parse(made.text) == made


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"sms": 9}, "INVALID_FIELD field=options.sms"),
        ({"mark": 9}, "INVALID_FIELD field=options.mark"),
        ({"unknown_caller": 9}, "INVALID_FIELD field=options.unknown_caller"),
        ({"unknown_caller": 1}, "ANNOUNCEMENT_INVALID field=unknown_caller_announcement"),
        ({"unknown_caller_announcement": "a"}, "ANNOUNCEMENT_INVALID"),
        ({"ended_announcement": "Ende!"}, "ANNOUNCEMENT_INVALID field=ended_announcement"),
        ({"time_zone": "Asia/Shanghai"}, "TIME_ZONE_UNKNOWN"),
        ({"windows": HOURS}, "TIME_ZONE_UNKNOWN"),
        ({"windows": HOURS, "time_zone": "Asia/Atlantis"}, "TIME_ZONE_UNKNOWN"),
        ({"windows": HOURS * 22, "time_zone": "UTC"}, "WINDOW_INVALID"),
        ({"windows": [pb.TimeWindow(end_minute=0)], "time_zone": "UTC"}, "WINDOW_INVALID"),
        ({"windows": [pb.TimeWindow(weekdays=[8], end_minute=5)], "time_zone": "UTC"},
         "WINDOW_INVALID"),
        ({"windows": [pb.TimeWindow(weekdays=[2, 1], end_minute=5)], "time_zone": "UTC"},
         "WINDOW_INVALID"),
        ({"recording": {}}, "RECORDING_UNANNOUNCED"),
        ({"recording": {"calls_of_a": TOLD}}, "RECORDING_UNANNOUNCED"),
        ({"recording": {"calls_of_a": TOLD, "calls_of_b": {"to_caller": "x"}}},
         "RECORDING_UNANNOUNCED"),
        ({"ring_timeout": {"seconds": 4}}, "INVALID_FIELD field=options.ring_timeout"),
        ({"ring_timeout": {"seconds": 30, "nanos": 1}}, "INVALID_FIELD"),
        ({"sliding_life": {"seconds": 59}}, "INVALID_FIELD field=options.sliding_life"),
        ({"start_time": {"seconds": -1}}, "INVALID_FIELD field=options.start_time"),
    ],
)  # fmt: skip
def test_each_wrong_choice_has_its_reason(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidArgument, match=reason):
        choices.read(pb.BindingOptions(**fields), Direction.BOTH)


def test_recording_is_announced_to_those_who_may_call() -> None:
    of_a = pb.BindingOptions(recording=pb.RecordingOption(calls_of_a=TOLD))
    made = choices.read(of_a, Direction.A_TO_B)
    assert made.recording == ("rec-1", "rec-2", "", "")
    assert choices.read(choices.shown(made) or pb.BindingOptions(), Direction.A_TO_B) == made
    with pytest.raises(InvalidArgument, match="RECORDING_UNANNOUNCED"):
        choices.read(of_a, Direction.B_TO_A)
