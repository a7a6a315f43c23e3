"""Serves a log's files read-only over HTTP: `python -m services.audit.tileserver`.

A process without any key and without the index. Serves names of tiles, `checkpoint`,
`checkpoint.witnessed` and `vkey`, and nothing else that lies in the folder. Tiles never change,
so caches may keep them for ever; a checkpoint is asked for anew each time (C2SP tlog-tiles).
Invariant: a body is one file as it was at one moment, whole.
"""

from hashlib import sha256
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import ClassVar, Final

from services.audit.settings import TileServerSettings
from services.audit.tiles import CHECKPOINT, WITNESSED, parse_path
from services.audit.tilestore import VKEY, FolderReader
from services.runtime.httpserver import Server
from services.runtime.metrics import Metrics
from services.runtime.settings import load
from services.runtime.signals import stop_on_signals, wait_for
from services.runtime.telemetry import HealthEndpoint, configure_logging, logger

_LOG: Final = logger(__name__)
_TEXT: Final = "text/plain; charset=utf-8"
_OCTETS: Final = "application/octet-stream"
# `private`: the log is not for the public, and no shared cache may answer for our access control.
_FOR_EVER: Final = "private, max-age=31536000, immutable"
_ASK_ANEW: Final = "private, no-cache"
_TEXTS: Final = frozenset({CHECKPOINT, WITNESSED, VKEY})
_TIMEOUT_SECONDS: Final = 30


def tile_server(folder: Path, listen: str) -> Server:
    """A server over one served folder; not started."""
    return Server(listen, type("_Bound", (_Handler,), {"reader": FolderReader(folder)}))


class _Handler(BaseHTTPRequestHandler):
    reader: ClassVar[FolderReader]
    protocol_version = "HTTP/1.1"
    server_version = "axbridge"
    sys_version = ""
    timeout = _TIMEOUT_SECONDS

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        path = self.path.partition("?")[0].removeprefix("/")
        is_text = path in _TEXTS
        body = self.reader.read(path) if is_text or parse_path(path) is not None else None
        if body is None:
            # Not cached: what is missing today may be a tile tomorrow.
            self._send(404, {"Content-Type": _TEXT, "Cache-Control": "no-store"}, b"not found\n")
            return
        tag = f'"{sha256(body).hexdigest()[:32]}"'
        headers = {"ETag": tag, "Cache-Control": _ASK_ANEW if is_text else _FOR_EVER}
        if self.headers.get("If-None-Match") == tag:
            self._send(304, headers, None)
            return
        headers["Content-Type"] = _TEXT if is_text else _OCTETS
        self._send(200, headers, body, with_body)

    def _send(
        self, code: int, headers: dict[str, str], body: bytes | None, with_body: bool = True
    ) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        if body is not None:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if body is not None and with_body and self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """What is read is no event of the log: it holds no personal data in clear."""


def main() -> None:
    """Until SIGTERM or SIGINT."""
    settings = load(TileServerSettings)
    configure_logging("audit", settings.log_level)
    stop = stop_on_signals()
    served = FolderReader(settings.log_dir / "log")
    server = tile_server(settings.log_dir / "log", settings.listen)
    ready = lambda: served.read_checkpoint() is not None  # noqa: E731
    health = HealthEndpoint(settings.health_listen, Metrics("audit").registry, ready=ready)
    health.start()
    server.start()
    _LOG.info("serving tiles", port=server.port, health_port=health.port)
    wait_for(stop)
    server.stop()
    health.stop()


if __name__ == "__main__":
    main()
