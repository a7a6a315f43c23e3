"""Errors are safe to show, whole after copying, and strict about their reason."""

import copy
import pickle
from datetime import timedelta

import pytest

from services.runtime import errors
from services.runtime.errors import AxbridgeError, InvalidArgument, Malformed, Retry, Unavailable

SECRET = "call 13812345678"


def test_text_shows_reason_and_metadata_only() -> None:
    error = Unavailable("STORE_AWAY", SECRET, retry_after=timedelta(seconds=1), b="2", a="1")
    assert str(error) == "STORE_AWAY a=1 b=2"
    assert repr(error) == "<Unavailable STORE_AWAY a=1 b=2>"
    assert SECRET not in f"{error!s}{error!r}"
    assert error.message == SECRET


def test_metadata_may_be_called_like_the_positional_arguments() -> None:
    error = InvalidArgument("FIELD_INVALID", reason="x", message="y")
    assert error.metadata == {"reason": "x", "message": "y"}


@pytest.mark.parametrize("reason", ["", "A", "lower_case", "HAS SPACE", "END_", "X" * 64, "1ST"])
def test_a_reason_is_upper_snake(reason: str) -> None:
    with pytest.raises(ValueError, match="UPPER_SNAKE"):
        InvalidArgument(reason)


@pytest.mark.parametrize("again", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])
def test_survives_copy_and_pickle(again) -> None:  # type: ignore[no-untyped-def]
    error = Unavailable("STORE_AWAY", "text", retry_after=timedelta(seconds=2), cell="c1")
    twin = again(error)
    assert type(twin) is Unavailable
    assert (twin.reason, twin.message, twin.retry_after, twin.metadata) == (
        error.reason, error.message, error.retry_after, error.metadata,
    )  # fmt: skip


def test_the_drawing_names_every_class() -> None:
    drawn = errors.__doc__ or ""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    for kind in (kind for kind in kinds if issubclass(kind, AxbridgeError)):
        assert f" {kind.__name__}" in drawn
        assert kind.__doc__


def test_consumer_errors_are_a_branch_of_their_own() -> None:
    assert issubclass(Malformed, errors.ConsumerError)
    assert issubclass(Retry, errors.ConsumerError)
    assert not issubclass(Unavailable, errors.ConsumerError)
