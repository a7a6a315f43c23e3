"""A log read over HTTP is the log; an outage is never a shorter one."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from services.audit.logfolder import Event, LogFolder
from services.audit.reader import StoredTree
from services.audit.remote import RemoteReader, RemoteUnreadable
from tests.unit.audit.test_tileserver import serving


def test_reads_what_is_served(tmp_path: Path) -> None:
    folder = LogFolder.open(tmp_path, "axbridge.example/log", lambda entry: entry)
    folder.append([Event(b"%d" % n, b"%d" % n) for n in range(300)], b"")
    note, size = folder.log.note, folder.log.checkpoint.size
    folder.close()
    with serving(tmp_path / "log") as url:
        reader = RemoteReader(f"{url}/")
        assert reader.read_checkpoint() == note
        assert reader.read("tile/0/002") is None
        tree = StoredTree(reader, size)
        assert tree.entry(299) == b"299"
        assert tree.prover(200).root() == folder.log.tree.prover(200).root()
        reader.close()
        assert reader.read_checkpoint() == note  # over a new connection
        reader.close()
    with pytest.raises(ConnectionRefusedError):
        reader.read_checkpoint()


@contextmanager
def answering(status: int, length: str, body: bytes) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", length)
            self.end_headers()
            self.wfile.write(body)
            self.close_connection = True

        def log_message(self, format: str, *arguments: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("status", "length", "body"),
    [(500, "0", b""), (302, "0", b""), (200, "9", b"short"), (200, "17000000", bytes(17_000_000))],
)
def test_whatever_is_no_answer_raises(status: int, length: str, body: bytes) -> None:
    with answering(status, length, body) as url:
        reader = RemoteReader(url)
        with pytest.raises(RemoteUnreadable):
            reader.read("checkpoint")
        reader.close()


@pytest.mark.parametrize("url", ["", "host", "ftp://host", "http://", "http://host/?q"])
def test_an_address_is_checked(url: str) -> None:
    with pytest.raises(ValueError, match="address"):
        RemoteReader(url)
