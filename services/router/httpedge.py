"""The HTTP/1.1 edge in, for switches that speak no gRPC: JSON in, the same handlers, JSON out.

`POST /v1/route`, `/v1/call-events`, `/v1/message`, all with `:batch` (`{"requests": […]}` answers
`{"results": […]}`, one a request, in order), `/v1/check-number`. An error is a google.rpc.Status.
A refused call is no error. Holds no rule; counts decisions and times calls as the gRPC edge does,
which asks for no more of its callers either: who may connect is the network's to say.

Invariant: one connection takes bounded memory and time, whatever it sends; nothing it sends stands
in an error or a log.
"""

import http.client
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from io import BufferedReader
from time import perf_counter
from typing import Any, ClassVar, Final

import grpc
from axbridge.router.v1 import router_service_pb2
from google.rpc import status_pb2

from services.router.jsonform import answer_from, form_of, items_of, message_from, octets, parsed
from services.router.servicer import RouterServicer
from services.router.translate import call_from, progress_from
from services.runtime.errors import AxbridgeError, InvalidArgument, Unimplemented
from services.runtime.httpserver import Server
from services.runtime.metrics import Metrics, Name
from services.runtime.status import status_of

# RouteCallRequest is a few hundred octets at most; a batch has up to 1,000 of them.
_MOST_BODY: Final = 1024 * 1024
_MOST_HEAD: Final = 16 * 1024
_IDLE_SECONDS: Final = 75.0  # a switch keeps its connections; beyond, it opens another
_REQUEST_SECONDS: Final = 5.0  # from the first octet of a request to the last of its answer

_CHECK: Final = "/v1/check-number"

# google.rpc.Code, as its comments map it.
_HTTP: Final[dict[int, int]] = {
    3: 400, 4: 504, 5: 404, 6: 409, 7: 403, 8: 429, 9: 400, 10: 409, 12: 501, 13: 500, 14: 503,
    15: 500, 16: 401,
}  # fmt: skip
_NAMES: Final = {code.value[0]: code.name for code in grpc.StatusCode}


class HttpEdge:
    """Answers bodies; `serve` makes a server of it. `domain` is the host in the URIs of answers."""

    def __init__(self, servicer: RouterServicer, metrics: Metrics, domain: str) -> None:
        self._decide, self._report, self._check = servicer.decide, servicer.report, servicer.check
        self._domain, self._metrics = domain, metrics
        self._paths: dict[str, tuple[str, Callable[[Any], Any], Callable[[float], None]]] = {}
        self._message = servicer.message
        for name, one in (
            ("route", self._route),
            ("call-events", self._call_event),
            ("message", self._text),
        ):
            self._serve(f"/v1/{name}", one)
            self._serve(f"/v1/{name}:batch", self._batch_of(one))
        self._serve(_CHECK, self._check_number)

    def server(self, listen: str, *, reuse_port: bool = False) -> Server:
        """A server of this edge; not started."""
        kind = type("_Bound", (_Handler,), {"edge": self})
        return Server(listen, kind, reuse_port=reuse_port)

    def answer(self, path: str, body: bytes, asker: str) -> tuple[int, dict[str, Any]]:
        """HTTP status and body for a POST. `asker`: the address that it came from."""
        found = self._paths.get(path)
        if found is None:
            return 404, form_of(status_of(Unimplemented("UNIMPLEMENTED")))
        method, handle, observe = found
        started = perf_counter()
        try:
            value = parsed(body)
            return 200, handle((value, asker) if path == _CHECK else value)
        except Exception as error:
            status = self._failed(method, error)
            return _HTTP[status.code], form_of(status)
        finally:
            observe(perf_counter() - started)

    def _serve(self, path: str, handle: Callable[[Any], Any]) -> None:
        method = "http" + path.replace(":", "_")
        observe = self._metrics.histogram(Name.RPC_SECONDS, method=method).observe
        self._paths[path] = method, handle, observe

    def _failed(self, method: str, error: Exception) -> status_pb2.Status:
        status = status_of(error, method)
        code = _NAMES[status.code]
        self._metrics.counter(Name.RPC_FAILURES, method=method, code=code).inc()
        return status

    def _batch_of(self, one: Callable[[Any], dict[str, Any]]) -> Callable[[Any], dict[str, Any]]:
        """Each request answered by itself: an error of one is its result, and the others go on."""

        def batch(value: Any) -> dict[str, Any]:
            return {"results": [each(item) for item in items_of(value)]}

        def each(item: Any) -> dict[str, Any]:
            try:
                return one(item)
            except Exception as error:
                return {"error": form_of(status_of(error, "batch"))}

        return batch

    def _route(self, value: Any) -> dict[str, Any]:
        request = message_from(value, router_service_pb2.RouteCallRequest())
        return answer_from(self._decide(call_from(request)), self._domain)

    def _call_event(self, value: Any) -> dict[str, Any]:
        request = message_from(value, router_service_pb2.ReportCallEventRequest())
        self._report(progress_from(request))
        return {}

    def _text(self, value: Any) -> dict[str, Any]:
        request = message_from(value, router_service_pb2.RouteMessageRequest())
        return form_of(self._message(request))

    def _check_number(self, asked: tuple[Any, str]) -> dict[str, Any]:
        value, asker = asked
        request = message_from(value, router_service_pb2.CheckNumberRequest())
        return form_of(self._check(request, asker))


class _Lines:
    """What the parser reads of a request's head, and no more than a head may have."""

    def __init__(self, file: BufferedReader) -> None:
        self._file, self.left = file, 0
        self.read, self.peek, self.close = file.read, file.peek, file.close

    @property
    def closed(self) -> bool:
        return self._file.closed

    def readline(self, limit: int) -> bytes:
        line = self._file.readline(min(limit, self.left + 1))
        self.left -= len(line)
        if self.left < 0:
            raise http.client.LineTooLong("head")
        return line


class _Handler(BaseHTTPRequestHandler):
    edge: ClassVar[HttpEdge]
    rfile: Any
    server: Any
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "axbridge", ""
    disable_nagle_algorithm = True
    wbufsize = -1  # an answer leaves in one write

    def setup(self) -> None:
        super().setup()
        self.rfile = _Lines(self.rfile)

    def handle_one_request(self) -> None:
        self.server.expect(self.connection, _IDLE_SECONDS)
        if not self.rfile.peek(1):
            self.close_connection = True
            return
        self.server.expect(self.connection, _REQUEST_SECONDS)
        self.rfile.left = _MOST_HEAD
        super().handle_one_request()

    def do_POST(self) -> None:
        lengths = self.headers.get_all("Content-Length", [])
        if "Transfer-Encoding" in self.headers or len(lengths) != 1:
            self.send_error(411)
            return
        if not (lengths[0].isascii() and lengths[0].isdigit()):
            self.send_error(400)
            return
        if len(lengths[0]) > 8 or int(lengths[0]) > _MOST_BODY:
            self.send_error(413)
            return
        body = self.rfile.read(int(lengths[0]))
        if len(body) < int(lengths[0]):  # the peer is gone: nobody would hear the decision
            self.close_connection = True
            return
        self._send(*self.edge.answer(self.path, body, self.client_address[0]))

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What is wrong with the HTTP itself; where the next request begins is then unknown."""
        self.close_connection = True
        error: AxbridgeError = InvalidArgument("REQUEST_MALFORMED")
        if code == 501:  # another method than POST
            code, error = 405, Unimplemented("UNIMPLEMENTED")
        self._send(code, form_of(status_of(error)))

    def _send(self, code: int, answer: dict[str, Any]) -> None:
        body = octets(answer)
        ending = "Connection: close\r\n" if self.close_connection else ""
        wait = "Retry-After: 1\r\n" if code in (429, 503) else ""
        self.wfile.write(
            f"HTTP/1.1 {code} {http.client.responses[code]}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n{wait}{ending}\r\n".encode()
            + body
        )

    def log_message(self, format: str, *args: object) -> None:
        """Calls are told of in the journal and in metrics."""
