"""What a process shows of itself: JSON logs, and the plain endpoint for metrics and health.

Every line, of our own loggers and of libraries, passes the same processors, the last of which
masks what may be a person's number (`redaction`). Refuses to log to files or to rotate: a line of
JSON on standard error is all there is. The endpoint serves nothing that needs protection.

Invariant: nothing reaches a log stream except through `_redacted`, uncaught exceptions
included.
"""

import logging
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, ClassVar, TextIO

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from structlog.typing import EventDict, Processor, WrappedLogger

from services.runtime.redaction import redact
from services.runtime.settings import split_address


def logger(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of a module; use key-value pairs, never a formatted text."""
    bound: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return bound


def configure_logging(service: str, level: str = "INFO", stream: TextIO | None = None) -> None:
    """Sends all logs of this process to the stream (standard error) as redacted lines of JSON."""

    def name_service(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        event["service"] = service
        return event

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        name_service,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,  # a second call (tests, forked workers) takes effect
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _redacted,
                structlog.processors.JSONRenderer(ensure_ascii=False),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread


def _redacted(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    masked = redact(event)
    assert isinstance(masked, dict)
    return masked


def _log_uncaught(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    logging.getLogger("axbridge").critical("crashed", exc_info=(kind, error, trace))


def _log_uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is None or issubclass(args.exc_type, SystemExit):
        return
    logging.getLogger("axbridge").critical(
        "thread crashed", exc_info=(args.exc_type, args.exc_value, args.exc_traceback)
    )


class HealthEndpoint:
    """Serves `/metrics`, `/healthz` (alive) and `/readyz` (can do its job) on a port of its own.

    `ready` and `live` are asked on each request and must answer at once; one that raises counts
    as False. Liveness must not depend on neighbours, or a broken broker restarts every process.
    """

    def __init__(
        self,
        listen: str,
        registry: CollectorRegistry,
        ready: Callable[[], bool] = lambda: True,
        live: Callable[[], bool] = lambda: True,
    ) -> None:
        handler = type("_Handler", (_Handler,), {
            "registry": registry, "checks": {"/healthz": live, "/readyz": ready},
        })  # fmt: skip
        self._server = _Server(split_address(listen), handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="health", daemon=True
        )

    @property
    def port(self) -> int:
        """The port in use, also when port 0 was asked for."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Begins to serve in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Stops serving and closes the port."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A peer that breaks off is no news (the base class prints a stack trace)."""


class _Handler(BaseHTTPRequestHandler):
    registry: ClassVar[CollectorRegistry]
    checks: ClassVar[dict[str, Callable[[], bool]]]
    server_version = "axbridge"
    sys_version = ""
    timeout = 5  # seconds a silent peer may hold a thread

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            encode, content_type = choose_encoder(self.headers.get("Accept", ""))
            self._answer(200, encode(self.registry), content_type)
        elif path in self.checks:
            good = _asked(self.checks[path])
            self._answer(200 if good else 503, b"ok\n" if good else b"not ok\n")
        else:
            self._answer(404, b"not found\n")

    def _answer(self, code: int, body: bytes, content_type: str = "text/plain") -> None:
        self.send_response(code)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Probes and scrapes are no events."""


def _asked(check: Callable[[], bool]) -> bool:
    try:
        return check()
    except Exception:
        return False
