"""The server frees the thread of each connection, also of one that broke off."""

import http.client
import socket
from http.server import BaseHTTPRequestHandler

import pytest

from services.runtime import httpserver
from services.runtime.httpserver import Server


class Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None: ...


def test_more_connections_than_may_be_open_are_served_in_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(httpserver, "_MOST_CONNECTIONS", 2)
    server = Server("127.0.0.1:0", Answers)
    server.start()
    try:
        for _ in range(6):
            broken = socket.create_connection(("127.0.0.1", server.port))
            broken.sendall(b"GET /")
            broken.close()
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
            connection.request("GET", "/")
            assert connection.getresponse().status == 204
            connection.close()
    finally:
        server.stop()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", server.port))
