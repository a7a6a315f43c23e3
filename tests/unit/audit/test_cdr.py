"""Reading a carrier's file, and what agrees with ours."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from services.audit.cdr import BadFile, Call, FileMapping, compare

COLUMNS = {"call_id": "ID", "number": "X", "call_time": "START"}
DAY = date(2026, 11, 25)
X = "700100000010001"
NINE = int(datetime(2026, 11, 25, 1, tzinfo=UTC).timestamp() * 1000)  # 09:00 in Shanghai


def mapping(columns: dict[str, str] | None = None, **settings: str) -> FileMapping:
    lines = ['carrier = "cm"', *(f"{name} = {value}" for name, value in settings.items())]
    lines += ["[columns]", *(f'{o} = "{t}"' for o, t in (columns or COLUMNS).items())]
    return FileMapping.parse("\n".join(lines))


def test_a_file_is_read_as_the_mapping_says() -> None:
    plain = mapping(COLUMNS | {"duration": "SECS", "q850_cause": "CAUSE"})
    lines = [
        "CALLER,ID,X,START,SECS,CAUSE\n",
        f"13800138000,a,{X},2026-11-25T09:00:00,1.5,16\n",
        f'"x, y",b, {X},2026-11-25T01:00:00Z,,\n',
    ]
    assert [*plain.calls(lines)] == [Call("a", X, NINE, 1500, 16), Call("b", X, NINE, 0, None)]
    packed = mapping(time_format='"%Y%m%d%H%M%S"', zone='"UTC"')
    assert [*packed.calls(["ID,X,START\n", f"a,{X},20261125010000\n"])] == [Call("a", X, NINE)]


def test_the_day_is_the_carriers() -> None:
    begin, end = mapping().day(DAY)
    assert (NINE - begin, end - begin) == (9 * 3_600_000, 24 * 3_600_000)


@pytest.mark.parametrize(
    "text",
    [
        "", "x", '[columns]\ncall_id = "a"', 'carrier = "c"\n[columns]\ncall_id = "a"',
        'carrier = "c"\ncolumns = 1', 'carrier = "c"\nzone = "Nowhere/Else"\n[columns]\n',
        'carrier = "c"\nrefused = "maybe"\n[columns]\n',
        'carrier = "c"\n[columns]\ncall_id="a"\nnumber="b"\ncall_time="c"\ncaller="d"',
        'carrier = "c"\ntolerance_seconds="x"\n[columns]\n',
    ],
)  # fmt: skip
def test_no_mapping(text: str) -> None:
    with pytest.raises(BadFile):
        FileMapping.parse(text)


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (["ID,X\n"], "no column START"),
        ([], "no column ID"),
        (["ID,X,START\n", f"a,{X},yesterday\n"], "line 2: a time"),
        (["ID,X,START\n", "a,13800138000,2026-11-25T09:00:00\n"], "line 2: the middle number"),
        (["ID,X,START\n", f",{X},2026-11-25T09:00:00\n"], "line 2: the call id"),
        (["ID,X,START\n", f"{'a' * 129},{X},2026-11-25T09:00:00\n"], "line 2: the call id"),
        (["ID,X,START\n", "a\n"], "line 2: a time"),
        (["ID,X,START\n", 'a,"b"c,d\n'], "no CSV"),
    ],
)
def test_a_file_that_is_not_understood_is_refused_without_quoting_it(
    lines: list[str], why: str
) -> None:
    with pytest.raises(BadFile, match=why) as refused:
        list(mapping().calls(lines))
    assert "13800138000" not in str(refused.value)


def compared(theirs: list[Call], ours: list[Call], **settings: str) -> list[tuple[Any, ...]]:
    used = mapping(None, **settings)
    found = compare(used, theirs, ours, *used.day(DAY))
    assert found.matched + found.count("differs") + found.count("missing") == len(theirs)
    return [(each.kind, each.call.call_id, *each.differences) for each in found.found]


def test_missing_extra_and_differing_calls() -> None:
    theirs = [
        Call("same", X, NINE + 900, 10_000, 16),
        Call("longer", X, NINE, 10_000, 16),
        Call("other", X, NINE + 60_000),
        Call("missing", X, NINE - 5),
        Call("no cause", X, NINE),
    ]
    ours = [
        Call("same", X, NINE, 9_000, 16),
        Call("longer", X, NINE + 3_000, 7_500, 17),
        Call("other", X[:-1] + "2", NINE + 60_000, 5),
        Call("extra", X, NINE + 1, tenant="taxi"),
        Call("no cause", X, NINE, 0, 31),
    ]
    assert compared(theirs, ours) == [
        ("missing", "missing"),
        ("extra", "extra"),
        (
            "differs", "longer",
            ("call_time", "2026-11-25T01:00:03+00:00", "2026-11-25T01:00:00+00:00"),
            ("duration", "7.5", "10"), ("q850_cause", "17", "16"),
        ),
        ("differs", "other", ("number", X[:-1] + "2", X)),
    ]  # fmt: skip


def test_midnight_and_refused_calls() -> None:
    begin, end = mapping().day(DAY)
    near = [Call(f"{at}", X, at) for at in (begin - 1, begin + 1, end - 1, end + 1)]
    assert compared([], near) == []  # the carrier may have them in the day before or after
    assert compared([Call("a", X, begin)], [Call("a", X, begin - 1)]) == []
    refused = [Call("no", X, NINE, refused=True)]
    assert compared([], refused) == []
    assert compared([], refused, refused='"present"') == [("extra", "no")]
    assert compared(refused, []) == [("missing", "no")]


def test_a_file_of_another_day_or_with_repeats_is_refused() -> None:
    day = int(timedelta(days=1).total_seconds() * 1000)
    for theirs in ([Call("a", X, NINE + day)], [Call("a", X, NINE), Call("a", X, NINE)]):
        with pytest.raises(BadFile):
            compared(theirs, [])
