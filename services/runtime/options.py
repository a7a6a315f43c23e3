"""A binding's options as one value, and as the one text that its route copies are bound to; with
what its mode adds to them.

binding writes the text, a router reads it. Pure but for the zone files. Refuses a text that it does
not know whole: a reader that meets an option of a later version must not guess what it allows.
Invariant: equal options give equal texts, no options give the empty one, and `parse` takes exactly
what `text` gives.
"""

import re
from dataclasses import dataclass, fields
from datetime import datetime
from functools import cached_property, lru_cache
from typing import Final
from zoneinfo import ZoneInfo

_WINDOW: Final = re.compile(r"([1-7]{1,7})@([0-9]{1,4})-([0-9]{1,4})", re.ASCII)
_CODE: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}", re.ASCII)
_EXTENSION: Final = re.compile(r"[0-9]{1,4}", re.ASCII)
_NUMBERS: Final = re.compile(r"(700[0-9]{12})-(700[0-9]{12})", re.ASCII)
_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,15}", re.ASCII)
_DAY_MINUTES: Final = 1440
MAX_WINDOWS: Final = 21  # three a day


@dataclass(frozen=True, slots=True)
class Window:
    """Minutes of the day, on ISO weekdays (1 Monday). It may go over midnight; it then belongs to
    the day on which it begins."""

    days: str
    start: int
    end: int

    def holds(self, day: int, minute: int) -> bool:
        """Whether it is open."""
        if self.start < self.end:
            return str(day) in self.days and self.start <= minute < self.end
        before = 7 if day == 1 else day - 1
        return (str(day) in self.days and minute >= self.start) or (
            str(before) in self.days and minute < self.end
        )


@dataclass(frozen=True)
class Options:
    """What restricts or colours the calls of a binding. Each default is "not chosen"."""

    start_ms: int = 0  # calls are refused before
    zone: str = ""  # IANA name; of the windows
    windows: tuple[Window, ...] = ()
    ring_seconds: int = 0
    # Announcement codes for calls of A (to the caller, to the callee), then of B.
    recording: tuple[str, str, str, str] | None = None
    sms: bool = True
    mark: bool = True  # R3
    stranger: str = ""  # announcement for a caller who is no party
    stranger_play: bool = False  # answers, plays it and releases, instead of refusing
    after: str = ""  # announcement once it has ended
    sliding_seconds: int = 0  # a call moves the end at least so far behind it
    callback_seconds: int = 0  # AXE: how long A reaches the last caller
    # What the mode makes of it, not chosen by anybody.
    extension: str = ""  # AXE
    callee_until_ms: int = 0  # AX: until when the temporary callee stands
    numbers: str = ""  # AXYB: X, which A dials and sees, a hyphen and Y, which B dials and sees

    @cached_property
    def text(self) -> str:
        """Every option that was chosen, in the order of the fields."""
        parts = ((name, _written(getattr(self, name))) for name in _CHOSEN)
        return ";".join(f"{name}={value}" for name, value in parts if value != _CHOSEN[name])

    def other(self, number: str) -> str:
        """Mode AXYB: Y of X and X of Y; otherwise the number itself."""
        x, _, y = self.numbers.partition("-")
        return y if y and number == x else x if number == y else number

    def open_at(self, time_ms: int) -> bool:
        """Whether one of the windows is open, or there is none. Raises LookupError: no such zone
        here."""
        if not self.windows:
            return True
        local = datetime.fromtimestamp(time_ms / 1000, zone(self.zone))
        day, minute = local.isoweekday(), local.hour * 60 + local.minute
        return any(window.holds(day, minute) for window in self.windows)


NONE: Final = Options()


def _written(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return str(int(value))
        case Window(days, start, end):
            return f"{days}@{start}-{end}"
        case tuple():
            return ",".join(map(_written, value))
        case _:
            return str(value)


_CHOSEN: Final = {field.name: _written(field.default) for field in fields(Options)}


@lru_cache(maxsize=4096)
def parse(text: str) -> Options:
    """The options that a text names.

    Raises:
        ValueError: it is not one that this version writes.
    """
    if not text:
        return NONE
    given: dict[str, object] = {}
    for part in text.split(";"):
        name, equal, value = part.partition("=")
        if not equal or name not in _CHOSEN:
            raise ValueError("an option that is not known")
        given[name] = _read(name, value)
    made = Options(**given)  # type: ignore[arg-type]
    if made.text != text:
        raise ValueError("not in its one form")
    return made


def _read(name: str, value: str) -> object:
    default = getattr(NONE, name)
    if name == "windows":
        return tuple(map(_window, value.split(",")))
    if name == "recording":
        codes = tuple(value.split(","))
        if len(codes) != 4 or not all(code == "" or is_code(code) for code in codes):
            raise ValueError("recording")
        return codes
    if isinstance(default, bool):
        return {"0": False, "1": True}.get(value)
    if isinstance(default, int):
        if _NUMBER.fullmatch(value) is None:
            raise ValueError("a number")
        return int(value)
    if name != "zone" and not _FORMS.get(name, is_code)(value):
        raise ValueError("a code")
    return value


def _window(text: str) -> Window:
    found = _WINDOW.fullmatch(text)
    if found is None:
        raise ValueError("a window")
    return window(found[1], int(found[2]), int(found[3]))


def window(days: str, start: int, end: int) -> Window:
    """A window that is well formed. Raises ValueError."""
    if not (0 <= start < _DAY_MINUTES and 0 < end <= _DAY_MINUTES and start != end):
        raise ValueError("a window's minutes")
    if not days or "".join(sorted(set(days) & set("1234567"))) != days:
        raise ValueError("a window's days")
    return Window(days, start, end)


def is_code(text: str) -> bool:
    """Whether it may name an announcement."""
    return _CODE.fullmatch(text) is not None


def is_extension(text: str) -> bool:
    """Whether it is 1 to 4 digits."""
    return _EXTENSION.fullmatch(text) is not None


def is_two_numbers(text: str) -> bool:
    """Whether it is two different middle numbers."""
    found = _NUMBERS.fullmatch(text)
    return found is not None and found[1] != found[2]


_FORMS: Final = {"extension": is_extension, "numbers": is_two_numbers}


@lru_cache(maxsize=1024)
def zone(name: str) -> ZoneInfo:
    """The time zone. Raises LookupError."""
    try:
        return ZoneInfo(name)
    except (ValueError, OSError):  # a path out of the folder, or a folder's name
        raise LookupError(name) from None
