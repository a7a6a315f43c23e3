"""A witness over HTTP with its store: restarts, many at once, and the edge's own refusals."""

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from services.audit.checkpoint import BadKey
from services.audit.cosignature import WitnessVerifier, cosigners
from services.audit.gatherer import post
from services.audit.settings import WitnessSettings
from services.audit.witness import SqliteWitnessStore, own_key, witness_server
from services.audit.witnessing import Seen
from tests.unit.audit.test_log import SIGNER
from tests.unit.audit.test_witnessing import Grown


@contextmanager
def running(folder: Path, log: str = SIGNER.verifier.vkey) -> Iterator[str]:
    settings = WitnessSettings(
        listen="127.0.0.1:0", data_dir=folder, name="witness.example", logs=(log,)
    )
    server = witness_server(settings)
    server.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.stop()


def vkey_of(url: str) -> WitnessVerifier:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)
    connection.request("GET", "/vkey")
    text = connection.getresponse().read().decode()
    connection.close()
    return WitnessVerifier.parse(text.removesuffix("\n"))


def test_it_remembers_across_restarts(tmp_path: Path) -> None:
    log, fork = Grown(3, 300), Grown(3, 300, salt=b"x")
    with running(tmp_path) as url:
        verifier = vkey_of(url)
        answer = post(f"{url}/add-checkpoint", log.body(0, 3))
        assert answer.status == 200
        assert cosigners(log.notes[3] + answer.body.encode(), [verifier])
    with running(tmp_path) as url:
        assert vkey_of(url) == verifier
        assert post(f"{url}/add-checkpoint", fork.body(3, 300)).status == 422
        refused = post(f"{url}/add-checkpoint", log.body(0, 300))
        assert (refused.status, refused.body, refused.content_type) == (
            409, "3\n", "text/x.tlog.size",
        )  # fmt: skip
        assert post(f"{url}/add-checkpoint", log.body(3, 300)).status == 200


def test_the_edge_refuses_what_is_no_request(tmp_path: Path) -> None:
    with running(tmp_path) as url:
        assert post(f"{url}/add-checkpoint", b"nonsense").status == 400
        assert post(f"{url}/add-checkpoint", bytes(70_000)).status == 400
        assert post(f"{url}/other", b"").status == 404


def test_one_of_many_at_once_is_cosigned(tmp_path: Path) -> None:
    """All ask for different trees from the same old size: one step wins, the others are told."""
    sizes = range(2, 12)
    log = Grown(1, *sizes)
    with running(tmp_path) as url:
        post(f"{url}/add-checkpoint", log.body(0, 1))
        statuses: list[int] = []
        asking = [
            threading.Thread(
                target=lambda size: statuses.append(
                    post(f"{url}/add-checkpoint", log.body(1, size)).status
                ),
                args=(size,),
            )
            for size in sizes
        ]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join()
    assert sorted(statuses) == [200] + [409] * 9


def test_the_store_steps_only_from_what_it_has(tmp_path: Path) -> None:
    one, two = (SqliteWitnessStore(tmp_path / "seen") for _ in range(2))
    first, second = Seen(1, b"a" * 32), Seen(2, b"b" * 32)
    assert one.newest("log") == Seen()
    assert one.replace("log", Seen(), first)
    assert not two.replace("log", Seen(), second)
    assert not two.replace("log", Seen(1, b"c" * 32), second)
    assert two.newest("log") == first
    assert two.replace("log", first, second)
    assert two.replace("other", Seen(), Seen())
    assert one.newest("log") == second


def test_its_key_stays_its_own(tmp_path: Path) -> None:
    made = own_key(tmp_path / "key", "one")
    assert own_key(tmp_path / "key", "one").skey() == made.skey()
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    with pytest.raises(SystemExit):
        own_key(tmp_path / "key", "two")
    (tmp_path / "key").write_text("nonsense")
    with pytest.raises(BadKey):
        own_key(tmp_path / "key", "one")
