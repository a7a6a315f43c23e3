"""A small threaded HTTP server for what is plain by specification: tiles and witnesses.

Refuses to know what it serves. Invariant: at most so many connections have a thread at a time;
others wait to be accepted, so nobody can use up the machine by connecting.
"""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from services.runtime.settings import split_address

# Each is a thread that mostly waits for its peer, which its handler's time-out bounds.
_MOST_CONNECTIONS: Final = 256


class Server:
    """Serves in threads of its own, from `start` to `stop`."""

    def __init__(self, listen: str, handler: type[BaseHTTPRequestHandler]) -> None:
        self._server = _Bounded(split_address(listen), handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="http", daemon=True
        )

    @property
    def port(self) -> int:
        """The port in use, also when port 0 was asked for."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Closes the port. Answers under way may be cut off."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()


class _Bounded(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, *arguments: Any) -> None:
        self._slots = threading.BoundedSemaphore(_MOST_CONNECTIONS)
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._slots.acquire()
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A peer that breaks off is no news (the base class prints a stack trace)."""
