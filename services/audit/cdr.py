"""Reads a carrier's call records out of CSV by a mapping, and compares them with ours. Pure.

    carrier = "cm-gd"             # as the switches name themselves in RouteCall
    zone = "Asia/Shanghai"        # of the day, and of times that name none
    time_format = "%Y%m%d%H%M%S"  # absent: ISO 8601
    tolerance_seconds = 2         # between the two clocks
    refused = "absent"            # or "present": whether the file has calls that we refused
    [columns]                     # ours = theirs
    call_id = "CALL_ID"
    number = "MIDDLE_NUMBER"
    call_time = "START_TIME"
    duration = "BILL_SECONDS"     # from here on optional: what is not named is not compared
    q850_cause = "CAUSE"

Refuses a file of which a line is not understood: half a comparison would be read as a whole one.
Invariant: only mapped columns are looked at, so real numbers in the file go nowhere; what a mapping
takes for the middle number is one.
"""

import csv
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from services.audit.domain import NUMBER

_REQUIRED: Final = frozenset({"call_id", "number", "call_time"})
_OPTIONAL: Final = frozenset({"duration", "q850_cause"})
_LONGEST_ID: Final = 128


class BadFile(ValueError):
    """The mapping or the file is not understood; the text says where, and quotes no value."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call as one side has it; None: that side does not say. Times in ms."""

    call_id: str
    number: str
    call_ms: int
    duration_ms: int | None = None
    q850_cause: int | None = None
    refused: bool = False
    tenant: str = ""
    binding: str = ""


@dataclass(frozen=True, slots=True)
class FileMapping:
    """How to read a carrier's file."""

    carrier: str
    zone: ZoneInfo
    columns: Mapping[str, str]
    time_format: str
    tolerance_ms: int
    refused_absent: bool

    @classmethod
    def parse(cls, text: str) -> "FileMapping":
        """Raises BadFile."""
        try:
            read = tomllib.loads(text)
            columns = dict(read["columns"])
            mapping = cls(
                str(read["carrier"]),
                ZoneInfo(read.get("zone", "Asia/Shanghai")),
                {ours: str(theirs) for ours, theirs in columns.items()},
                str(read.get("time_format", "")),
                int(float(read.get("tolerance_seconds", 2)) * 1000),
                {"absent": True, "present": False}[read.get("refused", "absent")],
            )
        except (tomllib.TOMLDecodeError, ZoneInfoNotFoundError, LookupError) as error:
            raise BadFile(f"the mapping is not understood: {type(error).__name__}") from None
        except (TypeError, ValueError):
            raise BadFile("the mapping is not understood") from None
        known = set(columns)
        if not mapping.carrier or not known >= _REQUIRED or known - _REQUIRED - _OPTIONAL:
            raise BadFile(
                "the mapping names a carrier, call_id, number and call_time, and no others"
            )
        return mapping

    def day(self, day: date) -> tuple[int, int]:
        """When the day begins and ends, in ms."""
        begins = [
            datetime.combine(day + timedelta(days=days), time(), self.zone) for days in (0, 1)
        ]
        return _ms(begins[0]), _ms(begins[1])

    def calls(self, lines: Iterable[str]) -> Iterator[Call]:
        """The calls of a file, whose first line names its columns. Raises BadFile."""
        reader = csv.DictReader(lines, strict=True)
        try:
            missing = set(self.columns.values()) - set(reader.fieldnames or ())
            if missing:
                raise BadFile(f"the file has no column {sorted(missing)[0]}")
            for row in reader:
                yield self._call(row, reader.line_num)
        except csv.Error:
            raise BadFile(f"line {reader.line_num} is no CSV") from None

    def _call(self, row: dict[str, str | None], line: int) -> Call:
        values = {ours: (row[theirs] or "").strip() for ours, theirs in self.columns.items()}
        try:
            duration, cause = values.get("duration"), values.get("q850_cause")
            call = Call(
                values["call_id"],
                values["number"],
                self._time(values["call_time"]),
                None if duration is None else round(float(duration or 0) * 1000),
                int(cause) if cause else None,
            )
        except (ValueError, OverflowError):
            raise BadFile(f"line {line}: a time or number is not understood") from None
        if not NUMBER.fullmatch(call.number):
            raise BadFile(f"line {line}: the middle number is none")
        if not 0 < len(call.call_id) <= _LONGEST_ID or not call.call_id.isprintable():
            raise BadFile(f"line {line}: the call id is empty or too long")
        return call

    def _time(self, text: str) -> int:
        if self.time_format:
            read = datetime.strptime(text, self.time_format)
        else:
            read = datetime.fromisoformat(text)
        return _ms(read if read.tzinfo else read.replace(tzinfo=self.zone))


@dataclass(frozen=True, slots=True)
class Found:
    """What a comparison found of one call. `call` is ours where we have it."""

    kind: Literal["missing", "extra", "differs"]
    call: Call
    differences: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything that does not agree, by time, and how many calls do."""

    found: tuple[Found, ...]
    matched: int

    def count(self, kind: str) -> int:
        return sum(found.kind == kind for found in self.found)


def compare(
    mapping: FileMapping, theirs: Iterable[Call], ours: Iterable[Call], begin_ms: int, end_ms: int
) -> Comparison:
    """Both sides' calls of a day. Ours may reach beyond it; a call within the tolerance of midnight
    may stand in either day.

    Raises:
        BadFile: the file has a call twice, or calls of another day.
    """
    slack = mapping.tolerance_ms
    known: dict[str, Call] = {}
    for call in theirs:
        if call.call_id in known:
            raise BadFile("the file has a call id twice")
        if not begin_ms <= call.call_ms < end_ms:
            raise BadFile("the file has calls of another day")
        known[call.call_id] = call
    found: list[Found] = []
    matched = 0
    for call in ours:
        carriers = known.pop(call.call_id, None)
        if carriers is not None:
            differences = tuple(_differences(call, carriers, slack))
            if differences:
                found.append(Found("differs", call, differences))
            else:
                matched += 1
        elif call.refused and mapping.refused_absent:
            continue
        elif begin_ms + slack <= call.call_ms < end_ms - slack:
            found.append(Found("extra", call))
    found += [Found("missing", call) for call in known.values()]
    return Comparison(tuple(sorted(found, key=_place)), matched)


def _differences(ours: Call, theirs: Call, slack: int) -> Iterator[tuple[str, str, str]]:
    if ours.number != theirs.number:
        yield "number", ours.number, theirs.number
    if abs(ours.call_ms - theirs.call_ms) > slack:
        yield "call_time", _iso(ours.call_ms), _iso(theirs.call_ms)
    if theirs.duration_ms is not None and abs((ours.duration_ms or 0) - theirs.duration_ms) > slack:
        yield "duration", _seconds(ours.duration_ms or 0), _seconds(theirs.duration_ms)
    if theirs.q850_cause is not None and ours.q850_cause != theirs.q850_cause:
        yield "q850_cause", str(ours.q850_cause or ""), str(theirs.q850_cause)


def _place(found: Found) -> Any:
    return found.call.call_ms, found.call.call_id


def _ms(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def _iso(ms: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)).isoformat()


def _seconds(ms: int) -> str:
    return f"{ms / 1000:g}"
