"""Options and their text: one form, read back whole, and windows of the local day."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.options import NONE, Options, Window, parse, window, zone

CODE = st.from_regex(r"[a-z0-9][a-z0-9-]{0,10}", fullmatch=True)
WINDOW = st.builds(
    lambda days, start, end: Window("".join(sorted(days)), start, end),
    st.sets(st.sampled_from("1234567"), min_size=1),
    st.integers(0, 719),
    st.integers(720, 1440),
)
OPTIONS = st.builds(
    Options,
    start_ms=st.integers(0, 10**13),
    zone=st.sampled_from(["", "Asia/Shanghai"]),
    windows=st.lists(WINDOW, max_size=3).map(tuple),
    ring_seconds=st.integers(0, 180),
    recording=st.none() | st.tuples(CODE, CODE, CODE, CODE),
    sms=st.booleans(),
    mark=st.booleans(),
    stranger=st.just("") | CODE,
    stranger_play=st.booleans(),
    after=st.just("") | CODE,
    sliding_seconds=st.integers(0, 10**8),
)


@given(OPTIONS)
def test_a_text_is_read_back(options: Options) -> None:
    assert parse(options.text) == options
    assert "\x1f" not in options.text
    assert options.text.isascii()


def test_nothing_chosen_is_no_text() -> None:
    assert NONE.text == ""
    assert parse("") is NONE


@pytest.mark.parametrize(
    "text",
    [
        "colour=red", "start_ms", "start_ms=0", "start_ms=01", "start_ms=-1", "sms=1", "sms=2",
        "mark=0;sms=0", "sms=0;sms=0", "sms=0;", "windows=8@1-2", "windows=21@1-2",
        "windows=1@5-5", "windows=1@0-1441", "recording=a,b,c", "recording=A,b,c,d",
        "stranger=Ä", "after=", "ring_seconds=9999999999999999999",
        "numbers=700100000010001", "numbers=700100000010001-700100000010001",
        "numbers=700100000010001-600100000010002",
    ],
)  # fmt: skip
def test_what_is_not_known_whole_is_not_guessed(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(text)


def test_each_of_two_numbers_shows_the_other() -> None:
    two = parse("numbers=700100000010001-700100000010002")
    assert two.other("700100000010001") == "700100000010002"
    assert two.other("700100000010002") == "700100000010001"
    assert NONE.other("700100000010001") == "700100000010001"


@given(st.text(max_size=40))
def test_any_other_text_is_refused_or_itself(text: str) -> None:
    try:
        made = parse(text)
    except ValueError:
        return
    assert made.text == text


def at(moment: str) -> int:
    return int(datetime.fromisoformat(moment).astimezone(UTC).timestamp() * 1000)


def test_windows_are_of_the_local_day() -> None:
    office = Options(zone="Asia/Shanghai", windows=(window("12345", 9 * 60, 18 * 60),))
    assert office.open_at(at("2026-01-05T01:00:00+00:00"))  # Monday, 09:00 in Shanghai
    assert not office.open_at(at("2026-01-05T00:59:59+00:00"))
    assert not office.open_at(at("2026-01-05T10:00:00+00:00"))  # 18:00
    assert not office.open_at(at("2026-01-04T02:00:00+00:00"))  # Sunday
    assert NONE.open_at(0)


def test_a_window_over_midnight_belongs_to_its_first_day() -> None:
    night = Options(zone="Asia/Shanghai", windows=(window("7", 22 * 60, 6 * 60),))  # Sunday night
    assert night.open_at(at("2026-01-04T22:00:00+08:00"))
    assert night.open_at(at("2026-01-05T05:59:00+08:00"))  # Monday morning
    assert not night.open_at(at("2026-01-05T06:00:00+08:00"))
    assert not night.open_at(at("2026-01-05T22:30:00+08:00"))
    assert not night.open_at(at("2026-01-04T05:00:00+08:00"))  # of Saturday's night


def test_windows_follow_summer_time() -> None:
    shop = Options(zone="Europe/Berlin", windows=(window("1234567", 9 * 60, 10 * 60),))
    assert shop.open_at(at("2026-01-15T08:30:00+00:00"))
    assert not shop.open_at(at("2026-07-15T08:30:00+00:00"))
    assert shop.open_at(at("2026-07-15T07:30:00+00:00"))


@pytest.mark.parametrize(
    "name", ["Mars/Olympus", "", "../etc/passwd", "/etc/localtime", "Asia", "\0"]
)
def test_zones_that_are_none(name: str) -> None:
    with pytest.raises(LookupError):
        zone(name)
    with pytest.raises(LookupError):
        Options(zone=name, windows=(window("1", 0, 1),)).open_at(0)
