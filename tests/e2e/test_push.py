"""A platform that cannot read Kafka is told of its bindings and calls by `services.router.push`."""

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from deploy.local.places import HOST, ROOT, free_port
from deploy.local.process import Child
from deploy.local.waiting import eventually
from tests import scene
from tests.scene import Scene, digits

pytestmark = pytest.mark.timeout(300)


class Receiver:
    """Takes events; while `away` it answers 503."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.raw = b""
        self.away = False
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if not outer.away:
                    outer.raw += body
                    outer.events += json.loads(body)["events"]
                self.send_response(503 if outer.away else 204)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer((HOST, 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def types(self) -> list[str]:
        return [event["type"] for event in self.events]


@contextmanager
def pushing(stage: Scene, folder: Path) -> Iterator[Child]:
    health = f"{HOST}:{free_port()}"
    child = Child(
        "push",
        [sys.executable, "-m", "services.router.push"],
        log=folder / "push.log",
        env={
            "ROUTER_KAFKA_BOOTSTRAP": stage.bootstrap,
            "ROUTER_DATA_DIR": str(folder),
            "ROUTER_KEYRING_DIR": str(stage.cluster.keys / "ring"),
            "ROUTER_PUSH_ENDPOINTS": str(folder / "endpoints.json"),
            "ROUTER_PUSH_HEALTH_LISTEN": health,
        },
        cwd=ROOT,
    )
    child.start()
    try:
        yield child
    finally:
        child.stop()


def test_a_platform_is_told_in_order_across_a_kill(stage: Scene, tmp_path: Path) -> None:
    receiver = Receiver()
    endpoint = {"url": f"http://{HOST}:{receiver.server.server_port}/", "secret": "s" * 32}
    (tmp_path / "endpoints.json").write_text(json.dumps({"tenants": {stage.tenant: endpoint}}))
    stage.pool("rides")
    a, b = stage.mobile(), stage.mobile()
    with pushing(stage, tmp_path) as child:
        bound = stage.platform.bind("rides", a, b, "trip-9", customer_data=b"seat 4")
        scene.routes(stage, a, digits(bound), b)
        eventually(lambda: "CallRouted" in receiver.types(), scene.PATIENCE)
        receiver.away = True
        stage.platform.release(bound.name)
        child.kill()  # what was taken up is on disk
    receiver.away = False
    with pushing(stage, tmp_path):
        eventually(lambda: "BindingReleased" in receiver.types(), scene.PATIENCE)
    # Killed between a platform's answer and its own note of it, it sends again: drop known ids.
    taken = {e["id"]: e for e in receiver.events if e.get("binding") == bound.name}
    ours = list(taken.values())
    assert [event["sequence"] for event in ours] == list(range(1, len(ours) + 1))
    assert {event["order_id"] for event in ours} == {"trip-9"}
    assert ours[0]["type"] == "BindingCreated"
    for number in (a, b):
        assert number.removeprefix("+86").encode() not in receiver.raw
    receiver.server.shutdown()
    receiver.server.server_close()
