"""Waiting: the value comes back, a deadline is kept, an exception is not swallowed."""

import pytest

from deploy.local.waiting import Late, eventually


def test_the_first_true_value_is_returned() -> None:
    values = iter([0, "", None, "here"])
    assert eventually(lambda: next(values), every_seconds=0) == "here"


def test_the_condition_is_asked_at_least_once() -> None:
    assert eventually(lambda: True, 0)


def test_a_deadline_names_what_was_awaited_and_the_last_value() -> None:
    with pytest.raises(Late, match=r"the broker: not within 0.01 s \(last: 0\)"):
        eventually(lambda: 0, 0.01, what="the broker")


def test_an_exception_of_the_condition_comes_through() -> None:
    with pytest.raises(ZeroDivisionError):
        eventually(lambda: 1 / 0)
