"""A relay is frozen before its produce and wakes after the next owner has published the release:
its stale record is seen, overruled, and compaction keeps what is true."""

import os
import sys
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from signal import SIGCONT
from typing import NamedTuple

import pytest
import redis
from axbridge.binding.v1 import binding_pb2, events_pb2

from deploy.local.clients import Platform
from deploy.local.compaction import Record, force_compaction
from deploy.local.places import HOST, ROOT, free_port
from deploy.local.process import Child
from deploy.local.waiting import eventually
from tests import scene
from tests.scene import Scene, digits, routes, uuid_of

pytestmark = pytest.mark.timeout(300)  # starts many processes; for a loaded machine

ROUTES, STATE = "binding.routes.v1", "binding.state.v1"


class Seen(NamedTuple):
    """A record of the binding: under which term it was published, and what it says."""

    epoch: int
    version: int
    state: int


def test_a_stale_route_of_a_frozen_relay_never_wins(stage: Scene) -> None:
    a, b = stage.mobile(), stage.mobile()
    usual = stage.cluster.services["binding"]
    with freezing(stage) as (frozen, platform):
        usual.stop()
        bound = platform.bind("rides", a, b, "trip-1")
        routes(stage, a, digits(bound), b)
        with ThreadPoolExecutor(1) as pool:
            update = pool.submit(scene.refusal, lambda: platform.update(bound, timedelta(hours=5)))
            eventually(lambda: stopped(frozen), scene.PATIENCE, what="the freeze")
            usual.start()
            stage.cluster.await_ready("binding")
            released = stage.platform.release(bound.name)
            assert (released.version, released.state) == (3, binding_pb2.BINDING_STATE_RELEASED)
            routes(stage, a, digits(bound), "RELEASED")
            # A new owner may publish what stands once more: an older term's record was last.
            assert list(dict.fromkeys(each.version for each in seen(stage, bound))) == [1, 2, 3]
            frozen.signal(SIGCONT)
            update.result()
        overruled(stage, bound)
    for topic in (ROUTES, STATE):
        force_compaction(stage.bootstrap, topic, scene.PATIENCE)
    assert {each.version for each in seen(stage, bound)} == {3}
    an_empty_view_refuses(stage, a, digits(bound))
    an_empty_store_knows_the_release(stage, bound)
    scene.sound(stage.cluster)


def overruled(stage: Scene, bound: binding_pb2.Binding) -> None:
    """The stale record is on the topic, of the old term, behind a newer one; and behind it what is
    true stands again."""
    first = seen(stage, bound)[0]
    stale = Seen(first.epoch, 2, binding_pb2.BINDING_STATE_ACTIVE)
    eventually(lambda: stale in seen(stage, bound), scene.PATIENCE, what="the stale record")
    eventually(lambda: seen(stage, bound)[-1] != stale, scene.PATIENCE, what="its repair")
    records = seen(stage, bound)
    at = records.index(stale)
    assert max(each.version for each in records[:at]) == 3
    assert first.epoch < records[-1].epoch
    released = {(3, binding_pb2.BINDING_STATE_RELEASED)}
    assert {(each.version, each.state) for each in records[at + 1 :]} == released


def an_empty_view_refuses(stage: Scene, caller: str, number: str) -> None:
    router = stage.cluster.services["router-2"]
    router.stop()
    view = stage.cluster.folder / "router-2" / "view"
    for path in view.iterdir():
        path.unlink()
    router.start()
    stage.cluster.await_ready("router-2")
    routes(stage, caller, number, "RELEASED")


def an_empty_store_knows_the_release(stage: Scene, bound: binding_pb2.Binding) -> None:
    with redis.Redis.from_url(stage.cluster.brokers.valkey.url) as store:
        store.flushall()
    eventually(lambda: got(stage, bound.name), scene.PATIENCE, what="the heal")
    found = stage.platform.get(bound.name)
    assert found.state == binding_pb2.BINDING_STATE_RELEASED
    assert found.version >= 3


def got(stage: Scene, name: str) -> binding_pb2.Binding | None:
    found: list[binding_pb2.Binding] = []
    scene.refusal(lambda: found.append(stage.platform.get(name)))
    return found[0] if found else None


@contextmanager
def freezing(stage: Scene) -> Iterator[tuple[Child, Platform]]:
    """A second binding, whose relay freezes before it produces an update; and a client of it."""
    cluster, brokers = stage.cluster, stage.cluster.brokers.environment()
    listen, health = f"{HOST}:{free_port()}", f"{HOST}:{free_port()}"
    child = Child(
        "freezing",
        [sys.executable, "-m", "tests.fault.freezing_binding"],
        log=cluster.folder / "logs" / "freezing.log",
        env={
            "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "gen"))),
            "BINDING_LISTEN": listen,
            "BINDING_HEALTH_LISTEN": health,
            "BINDING_KAFKA_BOOTSTRAP": brokers["KAFKA_BOOTSTRAP"],
            "BINDING_REDIS_URL": brokers["REDIS_URL"],
            "BINDING_ALLOCATOR_TARGET": cluster.addresses["allocator"],
            "BINDING_KEYRING_DIR": str(cluster.keys / "ring"),
            "BINDING_EVIDENCE_PUBLIC_KEY": str(cluster.keys / "evidence" / "evidence-public.pem"),
            "FREEZE_BEFORE": "axbridge.binding.v1.BindingUpdated",
        },
        cwd=ROOT,
    ).start()
    try:
        child.await_ready(lambda: answers(f"http://{health}/readyz"), scene.PATIENCE)
        with Platform(listen, stage.tenant) as platform:
            yield child, platform
    finally:
        child.stop()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1.0) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def stopped(child: Child) -> bool:
    return Path(f"/proc/{child.pid}/stat").read_text().rpartition(") ")[2][0] == "T"


def seen(stage: Scene, bound: binding_pb2.Binding) -> list[Seen]:
    """The binding's route records, as they lie on the topic."""
    key = f"{digits(bound)}/{uuid_of(bound)}".encode()
    return [_seen(record) for record in stage.records(ROUTES) if record.key == key]


def _seen(record: Record) -> Seen:
    route = events_pb2.Route.FromString(record.value or b"")
    epoch = dict(record.headers)["ce_axepoch"] or b""
    return Seen(int(epoch), route.version, route.state)
