"""Errors keep their meaning over the wire; unknown ones lose everything but an incident id."""

from collections.abc import Iterator, Sequence
from datetime import timedelta

import grpc
import pytest
import structlog
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from services.runtime import errors
from services.runtime.status import CODES, code_of, error_from_rpc, reason_of, to_status

NUMBER = "13812345678"


class Failed(grpc.RpcError, grpc.Call):
    """What a client's stub raises, made of a status."""

    def __init__(self, code: grpc.StatusCode, details: str, trailing: Sequence[object]) -> None:
        self._parts = code, details, trailing

    def code(self) -> grpc.StatusCode:
        return self._parts[0]

    def details(self) -> str:
        return self._parts[1]

    def trailing_metadata(self) -> Sequence[object]:  # type: ignore[override]
        return self._parts[2]

    def initial_metadata(self) -> None:  # type: ignore[override]
        raise NotImplementedError

    add_callback = cancel = is_active = time_remaining = initial_metadata  # type: ignore[assignment]


def over_the_wire(error: BaseException) -> Failed:
    status = to_status(error)
    return Failed(status.code, status.details, status.trailing_metadata)


@pytest.fixture(autouse=True)
def _plain_structlog() -> Iterator[None]:
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


@given(
    st.sampled_from(sorted(CODES, key=lambda kind: kind.__name__)),
    st.from_regex(r"[A-Z][A-Z0-9_]{0,61}[A-Z0-9]", fullmatch=True),
    st.dictionaries(st.from_regex(r"[a-z_]{1,20}", fullmatch=True), st.text("abc ", max_size=9)),
    st.none() | st.timedeltas(timedelta(0), timedelta(days=1)),
)
def test_round_trip(
    kind: type[errors.AxbridgeError],
    reason: str,
    metadata: dict[str, str],
    wait: timedelta | None,
) -> None:
    metadata.pop("retry_after", None)
    sent = kind(reason, "a constant text", retry_after=wait, **metadata)
    received = over_the_wire(sent)
    assert received.code() is CODES[kind]
    assert reason_of(received) == reason
    back = error_from_rpc(received)
    assert type(back) is kind
    assert (back.reason, back.metadata, back.retry_after) == (reason, metadata, wait)


def test_a_subclass_goes_out_as_its_parent() -> None:
    class QuotaReached(errors.ResourceExhausted):
        pass

    assert code_of(QuotaReached("QUOTA_REACHED")) is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert code_of(KeyError("x")) is grpc.StatusCode.INTERNAL


def test_an_unknown_exception_is_an_incident_without_its_text() -> None:
    def inner() -> None:
        raise KeyError(NUMBER)

    def outer() -> None:
        try:
            inner()
        except KeyError as cause:
            raise ValueError(f"cannot dial {NUMBER}") from cause

    with pytest.raises(ValueError, match="dial") as caught:
        outer()
    with capture_logs() as lines:
        status = to_status(caught.value, "t.Echo/Unary")
    assert status.code is grpc.StatusCode.INTERNAL
    received = Failed(status.code, status.details, status.trailing_metadata)
    back = error_from_rpc(received)
    assert back.reason == "INTERNAL"
    [line] = lines
    assert line["incident"] == back.metadata["incident"]
    assert line["types"] == ["builtins.ValueError", "builtins.KeyError"]
    assert any(frame.endswith(" inner") for frame in line["frames"])
    assert NUMBER not in f"{line}{status}"
    assert "dial" not in f"{line}{status}"


@pytest.mark.parametrize("error", [errors.Malformed("BAD_EVENT"), errors.Retry("NOT_YET")])
def test_consumer_errors_do_not_belong_on_the_wire(error: errors.ConsumerError) -> None:
    with capture_logs() as lines:
        assert over_the_wire(error).code() is grpc.StatusCode.INTERNAL
    assert len(lines) == 1


def test_expected_errors_are_not_logged_and_our_own_failures_are() -> None:
    with capture_logs() as lines:
        to_status(errors.NotFound("NOT_HERE"))
        assert lines == []
        to_status(errors.DataLoss("RECORD_UNREADABLE"))
    assert [line["error"] for line in lines] == ["RECORD_UNREADABLE"]


def test_numbers_in_message_and_metadata_are_masked() -> None:
    status = to_status(errors.InvalidArgument("BAD_FIELD", f"not {NUMBER}", field=f"+86{NUMBER}"))
    assert NUMBER not in str(status)


def test_errors_of_others_become_ours_by_their_code() -> None:
    lost = Failed(grpc.StatusCode.UNAVAILABLE, f"connection to {NUMBER} lost", ())
    assert reason_of(lost) == ""
    assert repr(error_from_rpc(lost)) == "<Unavailable UNAVAILABLE>"
    strange = Failed(grpc.StatusCode.UNKNOWN, "", ())
    assert repr(error_from_rpc(strange)) == "<Internal UNKNOWN>"
    assert repr(error_from_rpc(grpc.RpcError())) == "<Internal UNKNOWN>"


def test_details_that_contradict_the_status_or_are_garbage_are_ignored() -> None:
    key = "grpc-status-details-bin"
    other = status_pb2.Status(code=3, message="x").SerializeToString()
    for value in (other, b"\xff\xff"):
        odd = Failed(grpc.StatusCode.NOT_FOUND, "x", ((key, value),))
        assert repr(error_from_rpc(odd)) == "<NotFound NOT_FOUND>"


def test_a_foreign_domain_or_form_of_reason_is_not_taken_over() -> None:
    for domain, reason in (("example.com", "THEIR_REASON"), ("axbridge.dev", "not our form")):
        status = status_pb2.Status(code=5, message="x")
        status.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, domain=domain))
        trailing = (("grpc-status-details-bin", status.SerializeToString()),)
        odd = Failed(grpc.StatusCode.NOT_FOUND, "x", trailing)
        assert repr(error_from_rpc(odd)) == "<NotFound NOT_FOUND>"
