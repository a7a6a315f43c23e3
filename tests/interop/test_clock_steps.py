"""Clocks that step under running processes, by libfaketime: nothing is released early.

A replica of binding, or Valkey itself, is set a minute ahead, a minute back and a day ahead. Who is
wrong answers CLOCK_SKEWED and sweeps nothing; calls go on; once the clock is right all goes on.
"""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from axbridge.binding.v1 import binding_pb2, binding_service_pb2, events_pb2

from deploy.local.clients import create_request
from deploy.local.waiting import eventually
from services.binding.messages import millis
from services.runtime import topics
from services.runtime.status import reason_of
from tests import scene
from tests.interop.toolchain import faketime
from tests.scene import Scene

pytestmark = pytest.mark.timeout(300)

ACTIVE = binding_pb2.BINDING_STATE_ACTIVE
RELEASED = binding_pb2.BINDING_STATE_RELEASED
REPLICAS = ("binding", "binding-2")

Step = Callable[[str, str], None]


@pytest.fixture(scope="module")
def step(tmp_path_factory: pytest.TempPathFactory) -> Step:
    """Sets the clock of a process by so much (`+60`, `+1d`; `+0`: right)."""
    folder = tmp_path_factory.mktemp("offsets")

    def to(name: str, offset: str) -> None:
        new = folder / f"{name}.new"
        new.write_text(offset)
        new.replace(folder / name)

    for name in (*REPLICAS, "valkey"):
        to(name, "+0")
    to.folder = folder  # type: ignore[attr-defined]
    return to


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, step: Any) -> Iterator[Scene]:
    library = faketime()

    def environment(offsets: Path) -> dict[str, str]:
        return {
            "LD_PRELOAD": library,
            "FAKETIME_TIMESTAMP_FILE": str(offsets),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    environments = {name: environment(step.folder / name) for name in (*REPLICAS, "valkey")}
    folder = tmp_path_factory.mktemp("cluster")
    with scene.playing(folder, bindings=2, environments=environments) as playing:
        playing.pool("rides")
        yield playing


def answer(stub: Any, request: Any) -> str:
    """OK, or the reason."""
    try:
        stub.CreateBinding(request, timeout=20)
    except grpc.RpcError as error:
        return reason_of(error) or error.code().name
    return "OK"


@pytest.mark.parametrize("offset", ["+60", "-60", "+1d"])
@pytest.mark.parametrize("who", ["binding", "valkey"])
def test_a_step_releases_nothing_early(stage: Scene, step: Step, who: str, offset: str) -> None:
    stubs = {name: scene.bare_platform(stage, name) for name in REPLICAS}
    a, b = stage.mobile(), stage.mobile()
    long = stage.platform.bind("rides", a, b, "long")
    short = [bind(stage, timedelta(seconds=3)) for _ in range(3)]

    def says(name: str, wanted: str) -> bool:
        request = create_request(stage.tenant, "rides", stage.mobile(), stage.mobile(), "other")
        return answer(stubs[name], request) == wanted

    step(who, offset)
    wrong = REPLICAS if who == "valkey" else (who,)
    for name in wrong:
        eventually(lambda name=name: says(name, "CLOCK_SKEWED"), scene.PATIENCE)  # type: ignore[misc]
    scene.routes(stage, a, scene.digits(long), b)
    if who == "binding":  # the other goes on, also with ending what is due
        eventually(lambda: says("binding-2", "OK"), scene.PATIENCE)
        for name in short:
            eventually(lambda name=name: ended(stubs["binding-2"], name), scene.PATIENCE)  # type: ignore[misc]
    step(who, "+0")
    for name in REPLICAS:
        eventually(lambda name=name: says(name, "OK"), scene.PATIENCE)  # type: ignore[misc]
    for name in short:
        eventually(lambda name=name: ended(stubs["binding"], name), scene.PATIENCE)  # type: ignore[misc]
    assert stage.platform.get(long.name).state == ACTIVE
    scene.routes(stage, a, scene.digits(long), b)
    early = [each for each in releases(stage) if millis(each.release_time) < due(each)]
    assert not early
    scene.sound(stage.cluster)


def bind(stage: Scene, life: timedelta) -> str:
    a, b = stage.mobile(), stage.mobile()
    return stage.platform.bind("rides", a, b, "short", life=life).name


def ended(stub: Any, name: str) -> bool:
    request = binding_service_pb2.GetBindingRequest(name=name)
    return bool(stub.GetBinding(request, timeout=20).state == RELEASED)


def releases(stage: Scene) -> list[events_pb2.BindingReleased]:
    """All ends that were announced."""
    found = []
    for record in stage.records(topics.BINDING_BINDINGS.name):
        event = events_pb2.BindingReleased.FromString(record.value or b"")
        if event.HasField("release_time"):
            found.append(event)
    return found


def due(event: events_pb2.BindingReleased) -> int:
    return millis(event.fact.expire_time)
