"""Batches to a real HTTP server: signed, repeated until taken, one bad event apart."""

import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from pydantic import ValidationError

from deploy.local.waiting import eventually
from services.router.pushevents import Renderer, decode
from services.router.pushqueue import PushQueue
from services.router.pushsender import Endpoints, Sender
from services.runtime.clock import ManualClock
from services.runtime.metrics import Metrics
from services.runtime.record import Record
from services.runtime.sealing import PurgeSealer
from tests.unit.router.pushes import RING, TENANT, bound

SECRET = "s" * 32


class Platform:
    """A receiver that answers as told and keeps what it took."""

    def __init__(self) -> None:
        self.status = 200
        self.refuses = ""  # the event id that it answers 400 to
        self.batches: list[list[str]] = []
        self.taken: list[str] = []
        self.forged = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(outer.answer(body, self.headers["Axbridge-Signature"]))
                self.send_header("Location", "http://127.0.0.1:1/")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook?x=1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, body: bytes, header: str) -> int:
        parts = dict(part.split("=") for part in header.split(","))
        signed = parts["t"].encode() + b"." + body
        good = hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
        self.forged += parts["v1"] != good
        ids = [event["id"] for event in json.loads(body)["events"]]
        self.batches.append(ids)
        if self.refuses in ids:
            return 400
        if self.status == 200:
            self.taken += ids
        return self.status


class Subject:
    def __init__(self, folder: Path) -> None:
        self.platform, self.clock = Platform(), ManualClock()
        self.file = folder / "endpoints.json"
        self.write({TENANT: {"url": self.platform.url, "secret": SECRET}})
        self.endpoints = Endpoints(self.file)
        self.queue = PushQueue(folder / "push.sqlite", lambda _: True, self.clock.epoch_ms)
        metrics = Metrics("router", CollectorRegistry())
        render = Renderer(PurgeSealer(RING))
        self.sender = Sender(self.queue, self.endpoints, render, self.clock, metrics)

    def write(self, tenants: Any) -> None:
        self.file.write_text(json.dumps({"tenants": tenants}))

    def feed(self, *records: Record) -> None:
        self.queue.apply([(each, decode(each)) for each in records], {})

    def close(self) -> None:
        self.platform.server.shutdown()
        self.platform.server.server_close()
        self.queue.close()


@pytest.fixture
def s(tmp_path: Path) -> Iterator[Subject]:
    subject = Subject(tmp_path)
    yield subject
    subject.close()


def test_a_batch_is_signed_and_sent_once(s: Subject) -> None:
    s.feed(bound("b1"), bound("b2"))
    assert s.sender.send(TENANT)
    assert s.platform.taken == ["b1-1", "b2-1"]
    assert s.platform.forged == 0
    assert not s.sender.send(TENANT)
    assert len(s.platform.batches) == 1


@pytest.mark.parametrize("status", [500, 503, 429])
def test_an_endpoint_that_is_away_rests_longer_each_time(s: Subject, status: int) -> None:
    s.feed(bound("b1"))
    s.platform.status = status
    for pause in (1, 2, 4):
        assert not s.sender.send(TENANT)
        tried = len(s.platform.batches)
        s.clock.advance(timedelta(seconds=pause - 0.5))
        assert not s.sender.send(TENANT)
        assert len(s.platform.batches) == tried
        s.clock.advance(timedelta(seconds=0.5))
    s.platform.status = 200
    assert s.sender.send(TENANT)
    assert s.platform.taken == ["b1-1"]


@pytest.mark.parametrize("status", [302, 400, 404])
def test_a_bad_event_is_set_apart(s: Subject, status: int) -> None:
    s.feed(bound("b1"), bound("b2"), bound("b3"))
    s.platform.refuses = "b2-1"
    while s.sender.send(TENANT):
        pass
    assert s.platform.taken == ["b1-1", "b3-1"]
    s.platform.refuses, s.platform.status = "", status
    s.clock.advance(timedelta(seconds=10))
    assert s.sender.send(TENANT), "what is refused rests; the others go on"
    assert s.platform.taken == ["b1-1", "b3-1"], "a redirect is not followed"
    s.platform.status = 200
    s.clock.advance(timedelta(seconds=60))
    assert s.sender.send(TENANT)
    assert s.platform.taken[-1] == "b2-1"


def test_who_listens_nowhere_is_tried_again(s: Subject) -> None:
    s.feed(bound("b1"))
    s.write({TENANT: {"url": "http://127.0.0.1:1/", "secret": SECRET}})
    assert not s.sender.send(TENANT)
    s.write({TENANT: {"url": s.platform.url, "secret": SECRET}})
    s.clock.advance(timedelta(seconds=1))
    assert s.sender.send(TENANT)
    assert s.platform.taken == ["b1-1"]


def test_a_broken_file_leaves_the_endpoints_and_is_refused_at_the_start(s: Subject) -> None:
    s.file.write_text("{")
    assert s.endpoints.of(TENANT) is not None
    s.file.unlink()
    assert s.endpoints.of(TENANT) is not None
    s.write({TENANT: {"url": "ftp://x", "secret": SECRET}})
    with pytest.raises(ValidationError):
        Endpoints(s.file)
    s.write({TENANT: {"url": s.platform.url, "secret": "short"}})
    with pytest.raises(ValidationError):
        Endpoints(s.file)


def test_it_runs_until_it_is_stopped(s: Subject) -> None:
    stop = threading.Event()
    running = threading.Thread(target=s.sender.run, args=(stop,))
    running.start()
    s.feed(bound("b1"))
    eventually(lambda: s.platform.taken == ["b1-1"], 20)
    s.feed(bound("b2"))
    eventually(lambda: s.platform.taken == ["b1-1", "b2-1"], 20)
    stop.set()
    running.join(20)
    assert not running.is_alive()
