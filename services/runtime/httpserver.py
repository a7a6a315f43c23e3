"""A small threaded HTTP server: tiles and witnesses, and switches that speak no gRPC.

Refuses to know what it serves. Invariant: nobody can use up the machine by connecting. At most so
many connections have a thread at a time, others wait to be accepted; and one whose handler has said
until when it may take (`expect`) is cut off then, however slowly it drips.
"""

import contextlib
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from time import monotonic
from typing import Any, Final

from services.runtime.settings import split_address

# Each is a thread that mostly waits for its peer, which its handler's time-out bounds.
_MOST_CONNECTIONS: Final = 256
_LOOK_SECONDS: Final = 0.5  # how often for connections whose time is over


class Server:
    """Serves in threads of its own, from `start` to `stop`. With `reuse_port` several processes
    share the port (SO_REUSEPORT)."""

    def __init__(
        self, listen: str, handler: type[BaseHTTPRequestHandler], *, reuse_port: bool = False
    ) -> None:
        kind = type("_Own", (_Bounded,), {"allow_reuse_port": reuse_port})
        self._server = kind(split_address(listen), handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="http", daemon=True
        )

    @property
    def port(self) -> int:
        """The port in use, also when port 0 was asked for."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        self._thread.start()

    def stop(self, grace_seconds: float = 0.0) -> None:
        """Closes the port, and every connection once its answer under way is sent; after the grace
        answers may be cut off."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
        self._server.finish(monotonic() + grace_seconds)


class _Bounded(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        self._most = _MOST_CONNECTIONS
        self._slots = threading.BoundedSemaphore(self._most)
        self._open: dict[socket.socket, float] = {}  # each step on it is one, without a lock
        self._look_at = 0.0
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """Without the base class's look-up of a name for the address."""
        TCPServer.server_bind(self)

    def expect(self, connection: socket.socket, seconds: float) -> None:
        """Cuts the connection off unless the handler says another time before this one is over."""
        self._open[connection] = monotonic() + seconds

    def service_actions(self) -> None:
        now = monotonic()
        if now < self._look_at:
            return
        self._look_at = now + _LOOK_SECONDS
        for connection, until in list(self._open.items()):
            if until < now:
                _shut(connection, socket.SHUT_RDWR)  # wakes its thread, which then ends

    def finish(self, until: float) -> None:
        """Ends the reading of all connections, and waits for their threads."""
        for connection in list(self._open):
            _shut(connection, socket.SHUT_RD)
        for _ in range(self._most):
            self._slots.acquire(timeout=max(0.0, until - monotonic()))

    def process_request(self, request: Any, client_address: Any) -> None:
        while not self._slots.acquire(timeout=_LOOK_SECONDS):
            self.service_actions()
        self._open[request] = float("inf")
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._open.pop(request, None)
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A peer that breaks off is no news (the base class prints a stack trace)."""


def _shut(connection: socket.socket, how: int) -> None:
    with contextlib.suppress(OSError):  # it is closed already
        connection.shutdown(how)
