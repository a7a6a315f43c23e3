"""The log's files over HTTP: what is served, how long it may be kept, and what is not served."""

import http.client
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from services.audit.logfolder import Event, LogFolder
from services.audit.tileserver import tile_server


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    server = tile_server(folder, "127.0.0.1:0")
    server.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.stop()


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("log")
    folder = LogFolder.open(root, "axbridge.example/log", lambda entry: entry)
    folder.append([Event(b"%d" % n, b"%d" % n) for n in range(300)], b"")
    folder.close()
    return root / "log"


def ask(
    folder: Path, path: str, method: str = "GET", **headers: str
) -> tuple[http.client.HTTPResponse, bytes]:
    with serving(folder) as url:
        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
    return answer, body


@pytest.mark.parametrize("name", ["tile/0/000", "tile/entries/001.p/44", "tile/1/000.p/1"])
def test_tiles_may_be_kept_for_ever(log: Path, name: str) -> None:
    answer, body = ask(log, f"/{name}")
    assert (answer.status, body) == (200, (log / name).read_bytes())
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Cache-Control"] == "private, max-age=31536000, immutable"


@pytest.mark.parametrize("name", ["checkpoint", "vkey"])
def test_a_checkpoint_is_asked_for_anew(log: Path, name: str) -> None:
    answer, body = ask(log, f"/{name}")
    assert (answer.status, body) == (200, (log / name).read_bytes())
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["Cache-Control"] == "private, no-cache"
    again, nothing = ask(log, f"/{name}", **{"If-None-Match": answer.headers["ETag"]})
    assert (again.status, nothing) == (304, b"")


@pytest.mark.parametrize(
    "path",
    [
        "/", "/../private/key", "/tile/0/../../../private/key", "/tile", "/tile/0/0", "/tile/0/002",
        "/tile/8/000", "/tile/entries/001.p/0", "/%76key", "/checkpoint.witnessed",
    ],
)  # fmt: skip
def test_nothing_else_is_served(log: Path, path: str) -> None:
    answer, _ = ask(log, path)
    assert (answer.status, answer.headers["Cache-Control"]) == (404, "no-store")


def test_a_head_has_no_body_and_nothing_can_be_written(log: Path) -> None:
    answer, body = ask(log, "/vkey", "HEAD")
    assert (answer.status, body) == (200, b"")
    assert int(answer.headers["Content-Length"]) == (log / "vkey").stat().st_size
    for method in ("PUT", "POST", "DELETE"):
        assert ask(log, "/vkey", method)[0].status == 501
