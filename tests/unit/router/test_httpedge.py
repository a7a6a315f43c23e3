"""The HTTP edge over real sockets, its handlers on fakes."""

import http.client
import json
import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from deploy.local.waiting import eventually
from services.router import httpedge
from services.router.domain import Progress
from services.router.httpedge import HttpEdge
from services.router.servicer import RouterServicer
from services.runtime.metrics import Metrics
from tests.unit.router.test_handlers import BOUND, NUMBER, router

ROUTE = {"callId": "c1", "carrier": "cmcc", "caller": "13812345678", "dialled": NUMBER}
EVENT = {
    "callId": "c1", "carrier": "cmcc", "leg": "CALL_LEG_CALLEE", "sequence": 1,
    "kind": "CALL_EVENT_KIND_RINGING", "eventTime": "2026-11-25T08:00:00.5Z",
}  # fmt: skip


@pytest.fixture
def edge() -> Iterator[SimpleNamespace]:
    handler, routes, recorder = router()
    metrics = Metrics("router")
    servicer = RouterServicer(handler, metrics)
    server = HttpEdge(servicer, metrics, "example.org").server("127.0.0.1:0")
    server.start()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)

    def ask(path: str, body: Any, **headers: str) -> tuple[int, Any]:
        octets = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection.request("POST", path, octets, headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())

    def count(name: str, **labels: str) -> float:
        servicer.flush()
        return metrics.registry.get_sample_value(name, labels) or 0.0

    yield SimpleNamespace(
        ask=ask, count=count, connection=connection, server=server, routes=routes,
        recorder=recorder, port=server.port,
    )  # fmt: skip
    connection.close()
    server.stop()


def reason(status: dict[str, Any]) -> str:
    [info] = [d for d in status["details"] if d["@type"].endswith("/google.rpc.ErrorInfo")]
    assert info["domain"] == "axbridge.dev"
    return str(info["reason"])


def raw(edge: SimpleNamespace, octets: bytes) -> bytes:
    """Everything that the server says until it closes the connection."""
    with socket.create_connection(("127.0.0.1", edge.port), timeout=10) as peer:
        peer.sendall(octets)
        return b"".join(iter(lambda: peer.recv(65536), b""))


def test_one_connection_carries_many_calls_and_their_events(edge: SimpleNamespace) -> None:
    for _ in range(3):
        code, answer = edge.ask("/v1/route", ROUTE)
        assert (code, answer["connect"]["callee"]["e164"]) == (200, "+8613912345678")
        socket_kept = edge.connection.sock
        assert edge.ask("/v1/call-events", EVENT) == (200, {})
        assert edge.connection.sock is socket_kept
    assert len(edge.recorder.kept) == 6
    assert isinstance(edge.recorder.kept[1], Progress)
    assert edge.recorder.kept[1].event_ms % 1000 == 500
    assert edge.count("router_decisions_total", reason="CONNECTED") == 3
    assert edge.count("router_rpc_seconds_count", method="http/v1/route") == 3


def test_each_of_a_batch_is_answered_by_itself(edge: SimpleNamespace) -> None:
    code, answer = edge.ask("/v1/route:batch", {"requests": [ROUTE, {"callId": 7}, ROUTE]})
    first, second, third = answer["results"]
    assert (code, len(first["routes"]), len(third["routes"])) == (200, 1, 1)
    assert reason(second["error"]) == "REQUEST_MALFORMED"
    wrong = {**EVENT, "sequence": 0}
    code, answer = edge.ask("/v1/call-events:batch", {"requests": [EVENT, wrong]})
    assert (code, answer["results"][0]) == (200, {})
    assert reason(answer["results"][1]["error"]) == "INVALID_FIELD"
    assert len(edge.recorder.kept) == 3


def test_a_message_is_forwarded(edge: SimpleNamespace) -> None:
    message = {"messageId": "m1", "carrier": "cmcc", "sender": "13812345678", "dialled": NUMBER,
               "text": "楼下等你"}  # fmt: skip
    code, answer = edge.ask("/v1/message", message)
    assert (code, answer["forward"]["text"]) == (200, "【号码保护】楼下等你")
    code, answer = edge.ask("/v1/message:batch", {"requests": [message, {**message, "text": ""}]})
    assert answer["results"][0]["forward"]["parts"] == 1
    assert reason(answer["results"][1]["error"]) == "INVALID_FIELD"
    assert len(edge.recorder.texts) == 2
    assert edge.count("router_decisions_total", reason="CONNECTED") == 2


def test_refusals_are_answers_and_errors_are_statuses(edge: SimpleNamespace) -> None:
    edge.routes.found = BOUND._replace(entry=None)
    code, answer = edge.ask("/v1/route", ROUTE)
    assert (code, answer["refuse"]["reason"]) == (200, "REFUSAL_REASON_NOT_BOUND")
    for path, body, expected, name in (
        ("/v1/route", b"{", 400, "REQUEST_MALFORMED"),
        ("/v1/route", {**ROUTE, "carrier": "CMCC"}, 400, "CALL_INVALID"),
        ("/v1/call-events", {**EVENT, "q850Cause": 128}, 400, "INVALID_FIELD"),
        ("/v1/other", {}, 404, "UNIMPLEMENTED"),
    ):
        code, answer = edge.ask(path, body)
        assert (code, reason(answer)) == (expected, name)
    edge.recorder.full = True
    code, answer = edge.ask("/v1/route", ROUTE)
    assert (code, answer["code"], reason(answer)) == (429, 8, "JOURNAL_FULL")
    failures = {"method": "http/v1/route", "code": "RESOURCE_EXHAUSTED"}
    assert edge.count("router_rpc_failures_total", **failures) == 1


@pytest.mark.parametrize(
    ("head", "code"),
    [
        (b"POST /v1/route HTTP/1.1\r\n\r\n", b"411"),
        (b"POST /v1/route HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n", b"411"),
        (b"POST /v1/route HTTP/1.1\r\nContent-Length: -2\r\n\r\n", b"400"),
        (b"POST /v1/route HTTP/1.1\r\nContent-Length: 1048577\r\n\r\n", b"413"),
        (b"POST /v1/route HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"411"),
        (b"POST /v1/route HTTP/1.1\r\n" + b"A: %s\r\n" % (b"x" * 4000) * 5 + b"\r\n", b"431"),
        (b"POST /v1/route HTTP/1.1\r\n" + b"A: x\r\n" * 101 + b"\r\n", b"431"),
        (b"GET /v1/route HTTP/1.1\r\n\r\n", b"405"),
        (b"POST /v1/route HTTP/2.0\r\n\r\n", b"505"),
    ],
)
def test_http_that_is_not_ours_is_refused_and_its_connection_closed(
    edge: SimpleNamespace, head: bytes, code: bytes
) -> None:
    answer = raw(edge, head)
    assert answer.split(b" ")[:2] == [b"HTTP/1.1", code]
    body = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert reason(body) in ("REQUEST_MALFORMED", "UNIMPLEMENTED")
    assert edge.recorder.kept == []


def test_a_request_line_without_an_end_ends_the_connection(edge: SimpleNamespace) -> None:
    assert raw(edge, b"POST /" + b"x" * 20_000) == b""


def test_who_breaks_off_in_a_body_has_no_decision(edge: SimpleNamespace) -> None:
    with socket.create_connection(("127.0.0.1", edge.port), timeout=10) as peer:
        body = json.dumps(ROUTE).encode()
        peer.sendall(b"POST /v1/route HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (len(body) + 1))
        peer.sendall(body)
        peer.shutdown(socket.SHUT_WR)
        assert peer.recv(100) == b""
    assert edge.recorder.kept == []


def test_who_drips_is_cut_off(edge: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(httpedge, "_REQUEST_SECONDS", 0.01)
    assert raw(edge, b"POST /v1/ro") == b""
    with socket.create_connection(("127.0.0.1", edge.port), timeout=10) as peer:

        def ended() -> bool:  # a letter at a time, which by itself would never be late
            try:
                peer.sendall(b"P")
            except OSError:
                return True
            return False

        eventually(ended, what="the end of a slow request")


def test_the_end_is_a_good_one_for_who_is_connected(edge: SimpleNamespace) -> None:
    assert edge.ask("/v1/route", ROUTE)[0] == 200
    peer = edge.connection.sock
    edge.server.stop(5)
    assert peer.recv(1) == b""
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", edge.port))
