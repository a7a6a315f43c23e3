"""Whether all who keep bindings say the same of them: both topics, the store, allocator, the log.

Invariant: it is asked when nobody writes any more; repairs may still be under way, so it waits.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from axbridge.allocator.v1 import allocator_service_pb2, number_pb2
from axbridge.binding.v1 import binding_pb2, events_pb2

from deploy.local.compaction import Record
from deploy.local.waiting import Late, eventually
from tests import scene
from tests.scene import Scene

ACTIVE = binding_pb2.BINDING_STATE_ACTIVE


class Says(NamedTuple):
    """What one keeper says of a binding."""

    version: int
    state: int


def agree(stage: Scene) -> None:
    """Waits until nothing differs.

    Raises:
        Late: something still does, and what.
    """
    problems: list[str] = []

    def none() -> bool:
        problems[:] = differences(stage)
        return not problems

    try:
        eventually(none, scene.PATIENCE, every_seconds=0.5)
    except Late:
        raise Late("\n".join(problems[:20])) from None


def differences(stage: Scene) -> list[str]:
    """What differs now, in words."""
    routed = {
        key: events_pb2.Route.FromString(record.value or b"")
        for key, record in last(stage.records("binding.routes.v1")).items()
    }
    states = {
        key: events_pb2.StateRecord.FromString(record.value or b"")
        for key, record in last(stage.records("binding.state.v1")).items()
    }
    kept = {key: each.binding.route for key, each in states.items() if each.HasField("binding")}
    found = [f"{key}: only a route or only a state" for key in routed.keys() ^ kept.keys()]
    found += [
        f"{key}: route {says(routed[key])}, state {says(kept[key])}"
        for key in routed.keys() & kept.keys()
        if says(routed[key]) != says(kept[key])
    ]
    return found + _store(stage, routed) + _numbers(stage, routed) + _events(stage, routed)


def says(route: events_pb2.Route) -> Says:
    return Says(route.version, route.state)


def last(records: list[Record]) -> dict[str, Record]:
    """The last record of each binding's key; nothing is forgotten within a test's time."""
    return {(record.key or b"").decode(): record for record in records}


def _store(stage: Scene, routed: Mapping[str, events_pb2.Route]) -> list[str]:
    def differs(key: str) -> str:
        route = routed[key]
        binding = stage.platform.get(f"tenants/{route.tenant}/bindings/{route.binding}")
        stands = Says(binding.version, binding.state)
        return "" if stands == says(route) else f"{key}: route {says(route)}, store {stands}"

    with ThreadPoolExecutor(8) as pool:
        return [problem for problem in pool.map(differs, routed) if problem]


def _numbers(stage: Scene, routed: Mapping[str, events_pb2.Route]) -> list[str]:
    """An exclusive number is bound exactly while one of its bindings is live."""
    live = {route.number for route in routed.values() if route.state == ACTIVE}

    def differs(number: str) -> str:
        request = allocator_service_pb2.GetNumberRequest(name=f"numbers/{number}")
        found = stage.pools.stub.GetNumber(request, timeout=10)
        bound = found.state == number_pb2.NUMBER_STATE_BOUND
        right = bound == (number in live) and found.pairs == (number in live)
        return "" if right else f"{number}: allocator says {found.state} with {found.pairs} pairs"

    with ThreadPoolExecutor(8) as pool:
        return [p for p in pool.map(differs, {r.number for r in routed.values()}) if p]


def _events(stage: Scene, routed: Mapping[str, events_pb2.Route]) -> list[str]:
    """Every version has one event, by one id, however often the topic has it."""
    ids: dict[tuple[str, int], set[bytes]] = {}
    for record in stage.records("binding.bindings.v1"):
        headers = dict(record.headers)
        version = int(headers["ce_axversion"] or b"0")
        place = (record.key or b"").decode(), version
        ids.setdefault(place, set()).add(headers["ce_id"] or b"")
    found = [
        f"{key} version {v}: {len(each)} events" for (key, v), each in ids.items() if len(each) > 1
    ]
    return found + [
        f"{key}: no event of its version {route.version}"
        for key, route in routed.items()
        if (key, route.version) not in ids
    ]
