"""200 pairs on one number: what compaction keeps of them, and who can rebuild them."""

from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
import redis
from axbridge.allocator.v1 import allocator_service_pb2, number_pb2
from axbridge.binding.v1 import binding_pb2

from deploy.local.compaction import force_compaction
from deploy.local.waiting import eventually
from tests import scene
from tests.scene import Scene, digits, outcome, refusal, routes

pytestmark = pytest.mark.timeout(300)  # starts many processes; for a loaded machine

PAIRS = 200
Pair = tuple[str, str, binding_pb2.Binding]


def test_200_pairs_on_one_number_survive_compaction_an_empty_view_and_an_empty_store(
    stage: Scene,
) -> None:
    stage.pools.create("shared", shared=True)
    stage.block = f"{int(stage.block) ^ 1}"
    stage.pools.register(stage.block, "shared")
    pairs = [bound(stage) for _ in range(PAIRS)]
    number = digits(pairs[0][2])
    assert {digits(binding) for _, _, binding in pairs} == {number}
    beyond = bound(stage)
    assert digits(beyond[2]) != number
    a_party_is_on_a_number_once(stage, pairs[0])
    for topic in ("binding.routes.v1", "binding.state.v1"):
        force_compaction(stage.bootstrap, topic, scene.PATIENCE)
    an_empty_view_rebuilds(stage)
    all_are_routed(stage, pairs)
    with redis.Redis.from_url(stage.cluster.brokers.valkey.url) as store:
        store.flushall()
    all_are_rebuilt(stage, pairs, number)
    again = bound(stage)
    assert digits(again[2]) != number
    all_are_routed(stage, [*pairs, beyond, again])
    scene.sound(stage.cluster)


def bound(stage: Scene, a: str = "") -> Pair:
    a, b = a or stage.mobile(), stage.mobile()
    return a, b, stage.platform.bind("shared", a, b, "ride-share")


def a_party_is_on_a_number_once(stage: Scene, pair: Pair) -> None:
    """A's further bindings go to numbers that do not carry A yet, whatever A's role."""
    a = pair[0]
    carried = {digits(pair[2])}
    for _ in range(3):
        other = bound(stage, a)
        assert digits(other[2]) not in carried
        carried.add(digits(other[2]))
        routes(stage, a, digits(other[2]), other[1])
        assert outcome(stage.switches[0].call(a, digits(pair[2]))) == pair[1]


def an_empty_view_rebuilds(stage: Scene) -> None:
    router = stage.cluster.services["router-2"]
    router.stop()
    for path in (stage.cluster.folder / "router-2" / "view").iterdir():
        path.unlink()
    router.start()
    stage.cluster.await_ready("router-2")


def all_are_routed(stage: Scene, pairs: list[Pair]) -> None:
    for a, b, binding in pairs:
        routes(stage, a, digits(binding), b)
        routes(stage, b, digits(binding), a)


def all_are_rebuilt(stage: Scene, pairs: list[Pair], number: str) -> None:
    def listed() -> list[binding_pb2.Binding]:
        found: list[binding_pb2.Binding] = []
        refusal(lambda: found.extend(stage.platform.list(number=f"numbers/{number}")))
        return found

    wanted = [binding for _, _, binding in pairs]
    eventually(lambda: len(listed()) == PAIRS, scene.PATIENCE, what="the heal of binding")
    assert listed() == wanted
    with ThreadPoolExecutor(8) as pool:
        names = [binding.name for binding in wanted]
        assert list(pool.map(stage.platform.get, names)) == wanted
    request = allocator_service_pb2.GetNumberRequest(name=f"numbers/{number}")

    def carries() -> bool:
        found: list[number_pb2.Number] = []
        code, _ = refusal(lambda: found.append(stage.pools.stub.GetNumber(request, timeout=10)))
        return code == grpc.StatusCode.OK and found[0].pairs == PAIRS

    eventually(carries, scene.PATIENCE, what="the heal of allocator")
