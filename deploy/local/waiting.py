"""Waiting for a condition with a deadline; the only place of deploy and tests that sleeps.

It never swallows an exception of the condition: a condition that may fail while it waits says so
itself by returning something false.
"""

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")


class Late(AssertionError):
    """The condition did not hold before its deadline."""


def eventually(
    condition: Callable[[], Found],
    deadline_seconds: float = 10.0,
    *,
    what: str = "",
    every_seconds: float = 0.02,
) -> Found:
    """Polls until the condition is true and returns its value.

    Raises:
        Late: it was still false after the deadline; the message names `what` and the last value.
    """
    give_up = time.monotonic() + deadline_seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() >= give_up:
            name = what or getattr(condition, "__name__", "condition")
            raise Late(f"{name}: not within {deadline_seconds:g} s (last: {found!r})")
        time.sleep(every_seconds)
