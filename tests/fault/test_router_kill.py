"""Nothing that was answered is missing from Kafka, whatever is killed.

What does this test do? Switches ask without pause while workers, the writer, and at last the whole
router are killed with SIGKILL; then the router is started again.
How does it check? Every answer's call id must stand on the calls topic, with the same outcome.
"""

import os
import random
import signal
import subprocess
import threading
import uuid
from pathlib import Path

import grpc
import pytest
from axbridge.router.v1 import events_pb2

from tests.conftest import NewTopicName
from tests.router_world import (
    BindingStub,
    Switch,
    World,
    eventually,
    free_port,
    process,
    read_topic,
)

A, B = "+8613812345678", "+8613912345678"
pytestmark = pytest.mark.timeout(180)


def children(pid: int, module: str) -> list[int]:
    """Child processes that run the module."""
    found = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    ).stdout.splitlines()
    return [int(line.split()[0]) for line in found if module in line]


class Load:
    """Switches that ask without pause and remember each answer."""

    def __init__(self, address: str, number: str) -> None:
        self.answered: dict[str, bool] = {}
        self.failed = 0
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(address, number, i)) for i in range(3)
        ]
        for thread in self._threads:
            thread.start()

    def _ask(self, address: str, number: str, seed: int) -> None:
        switch, chosen = Switch(address), random.Random(seed)
        while not self._stop.is_set():
            call_id, caller = uuid.uuid4().hex, chosen.choice([A, B, "+8618612345678", ""])
            try:
                answer = switch.ask(caller, number, call_id, timeout=2)
                self.answered[call_id] = answer.HasField("connect")
            except grpc.RpcError:  # asked a worker that is dead: the switch would ask again
                self.failed += 1
                self._stop.wait(0.01)
        switch.close()

    def stop(self) -> None:
        """Ends asking."""
        self._stop.set()
        for thread in self._threads:
            thread.join()


def test_nothing_answered_is_lost(
    kafka_bootstrap: str, new_topic: NewTopicName, tmp_path: Path
) -> None:
    world, port = World(tmp_path), free_port()
    routes, keys, denials, calls, callers = (
        new_topic(name, partitions=2) for name in ("routes", "keys", "denials", "calls", "callers")
    )
    environment = {
        "ROUTER_LISTEN": f"127.0.0.1:{port}", "ROUTER_KAFKA_BOOTSTRAP": kafka_bootstrap,
        "ROUTER_DATA_DIR": str(tmp_path / "data"), "ROUTER_KEYRING_DIR": str(tmp_path / "keys"),
        "ROUTER_EVIDENCE_PUBLIC_KEY": str(tmp_path / "evidence"), "ROUTER_WORKERS": "2",
        "ROUTER_ROUTES_TOPIC": routes, "ROUTER_KEYS_TOPIC": keys, "ROUTER_CALLS_TOPIC": calls,
        "ROUTER_DENIALS_TOPIC": denials, "ROUTER_CALLERS_TOPIC": callers,
    }  # fmt: skip
    log, address, number = tmp_path / "router.log", f"127.0.0.1:{port}", world.number()
    BindingStub(kafka_bootstrap, routes, keys, 2).publish(
        world.route(number, "b1", A, B), world=world
    )
    switch = Switch(address)
    seed = int(os.environ.get("SEED", "42"))
    print(f"seed {seed}")
    order = random.Random(seed)

    with process("services.router", environment, log) as router:
        eventually(lambda: switch.ask(A, number).HasField("connect"), what="first connect")
        load = Load(address, number)
        for kind in ("worker", "writer", "worker", "worker"):
            alive = eventually(lambda k=kind: children(router.pid, f"services.router.{k}"))  # type: ignore[misc]
            os.kill(order.choice(alive), signal.SIGKILL)
            before = len(load.answered)
            eventually(lambda n=before: len(load.answered) > n + 50, what="answers go on")  # type: ignore[misc]
        orphans = children(router.pid, "services.router.")
        assert len(orphans) >= 2
        router.kill()  # the children notice and drain by themselves
        router.wait()
        eventually(lambda: not any(map(_alive, orphans)), what="orphans end")
        load.stop()

    with process("services.router", environment, log):
        eventually(lambda: switch.ask(A, number).HasField("connect"), what="connect again")
        eventually(
            lambda: load.answered.keys() <= _decisions(kafka_bootstrap, calls).keys(),
            what="every answer on the topic",
        )
    decisions = _decisions(kafka_bootstrap, calls)
    print(f"{len(load.answered)} answered, {load.failed} failed, {len(decisions)} on the topic")
    assert all(decisions[call_id] == connected for call_id, connected in load.answered.items())
    assert True in load.answered.values()
    assert False in load.answered.values()
    assert not list((tmp_path / "data" / "journal").glob("*.seg"))  # all shipped and deleted
    switch.close()


def _alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def _decisions(bootstrap: str, topic: str) -> dict[str, bool]:
    found = {}
    for message in read_topic(bootstrap, topic):
        headers = dict(message.headers() or [])
        connected = headers["ce_type"] == b"axbridge.router.v1.CallRouted"
        kind = events_pb2.CallRouted if connected else events_pb2.CallRefused
        found[kind.FromString(message.value() or b"").fact.call_id] = connected
    return found
