"""Log lines are JSON without numbers, from whichever logger; the endpoint answers three paths."""

import io
import json
import logging
import socket
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.runtime.metrics import Metrics, Name
from services.runtime.telemetry import HealthEndpoint, configure_logging, logger

NUMBER = "13812345678"
Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root, hooks = logging.getLogger(), (sys.excepthook, threading.excepthook)
    before, level = root.handlers[:], root.level
    text = io.StringIO()
    configure_logging("sample", "info", text)
    yield text
    root.handlers[:] = before
    root.setLevel(level)
    sys.excepthook, threading.excepthook = hooks
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_own_and_foreign_loggers_give_the_same_kind_of_line(stream: io.StringIO) -> None:
    logger("ours").info("done", count=3, state={"a": [1]})
    logging.getLogger("theirs").warning("left %d behind", 2, extra={"topic": "t.v1"})
    ours, theirs = lines(stream)
    assert (ours["event"], ours["count"], ours["state"]) == ("done", 3, {"a": [1]})
    assert (theirs["event"], theirs["topic"]) == ("left 2 behind", "t.v1")
    for line, name, level in ((ours, "ours", "info"), (theirs, "theirs", "warning")):
        assert (line["logger"], line["level"], line["service"]) == (name, level, "sample")
        assert line["time"].endswith("Z")


def test_the_level_holds_for_both(stream: io.StringIO) -> None:
    logger("ours").debug("no")
    logging.getLogger("theirs").debug("no")
    assert lines(stream) == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    number=st.from_regex(r"1[3-9][0-9]{9}", fullmatch=True),
    prefix=st.sampled_from(["", "+86", "86", "0086"]),
    gap=st.sampled_from(["", " ", "-"]),
)
def test_no_planted_number_reaches_the_stream(
    stream: io.StringIO, number: str, prefix: str, gap: str
) -> None:
    text = gap.join(part for part in (prefix, number[:3], number[3:7], number[7:]) if part)
    stream.truncate(0)
    logger("ours").info(f"call {text}", to=text, nested={text: [int(number), text.encode()]})
    logging.getLogger("theirs").error("call %s", text, extra={"to": {"x": (text,)}})
    try:
        raise ValueError(f"cannot dial {text}")
    except ValueError:
        logger("ours").exception("failed")
        logging.getLogger("theirs").exception("failed %s", text)
    shown = stream.getvalue()
    assert len(shown.splitlines()) == 4
    assert "ValueError: cannot dial [masked]" in shown
    assert number not in shown
    assert text not in shown


def test_uncaught_exceptions_are_logged_and_masked(stream: io.StringIO) -> None:
    def dial() -> None:
        raise ValueError(f"cannot dial {NUMBER}")

    thread = threading.Thread(target=dial)
    thread.start()
    thread.join()
    try:
        dial()
    except ValueError as error:
        sys.excepthook(type(error), error, error.__traceback__)
    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert [line["event"] for line in lines(stream)] == ["thread crashed", "crashed"]
    assert NUMBER not in stream.getvalue()


class Checks:
    def __init__(self) -> None:
        self.ready: Callable[[], bool] = lambda: True


@pytest.fixture
def endpoint() -> Iterator[tuple[int, Checks]]:
    metrics, checks = Metrics("sample"), Checks()
    metrics.gauge(Name.READY).set(1)
    served = HealthEndpoint("127.0.0.1:0", metrics.registry, ready=lambda: checks.ready())
    served.start()
    yield served.port, checks
    served.stop()


def get(port: int, path: str, accept: str = "*/*") -> tuple[int, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Accept": accept})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_the_endpoint_answers(endpoint: tuple[int, Checks]) -> None:
    port, _ = endpoint
    assert get(port, "/healthz") == (200, "ok\n")
    assert get(port, "/readyz?verbose=1") == (200, "ok\n")
    code, text = get(port, "/metrics")
    assert code == 200
    assert "sample_ready 1.0" in text
    assert get(port, "/metrics", "application/openmetrics-text")[1].endswith("# EOF\n")
    assert get(port, "/else")[0] == 404


def test_readiness_and_liveness_are_two_questions(endpoint: tuple[int, Checks]) -> None:
    port, checks = endpoint
    checks.ready = lambda: False
    assert get(port, "/readyz") == (503, "not ok\n")
    checks.ready = lambda: bool(1 / 0)
    assert get(port, "/readyz") == (503, "not ok\n")
    assert get(port, "/healthz") == (200, "ok\n")


def test_garbage_and_silence_do_no_harm(
    endpoint: tuple[int, Checks], capsys: pytest.CaptureFixture[str]
) -> None:
    port, _ = endpoint
    with socket.create_connection(("127.0.0.1", port)) as peer:
        peer.sendall(b"\x00\xff\r\n\r\n")
    with socket.create_connection(("127.0.0.1", port)):
        assert get(port, "/healthz")[0] == 200
    assert capsys.readouterr().err == ""
