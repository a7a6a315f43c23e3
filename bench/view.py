"""How the view grows and how fast it is folded: `python -m bench.view`.

Records of `binding.routes.v1` as they come from Kafka are decoded and folded by the writer's own
code, a thousand a transaction. Told at each step: octets of the file a route, and the routes a
second of CPU since the last step. At the end a writer and a worker open the file again, as after a
restart, till the worker finds a route. What Kafka itself takes is not in it.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Final

from axbridge.binding.v1 import events_pb2

from services.router.opener import CallerTagger
from services.router.store import ViewReader, ViewWriter
from services.router.subscriber import decode_route
from services.runtime.keyring import FileKeyRing
from services.runtime.record import Record
from tests.router_world import World, envelope

STEPS: Final = (10_000, 30_000, 100_000, 300_000, 1_000_000)
_BATCH: Final = 1000
_A, _B = "+8613812345678", "+8613912345678"


def main() -> None:
    """Prints each step and what a restart takes."""
    parser = argparse.ArgumentParser(prog="python -m bench.view")
    parser.add_argument("--routes", type=int, default=STEPS[-1])
    routes = parser.parse_args().routes
    with tempfile.TemporaryDirectory(prefix="axbridge-bench-") as text:
        folder = Path(text)
        world = World(folder)
        model = world.route(world.number(), "018f2c6e-0000-7000-8000-000000000000", _A, _B)
        view = ViewWriter(folder / "view")
        done, octets, rate = 0, 0.0, 0.0
        print(f"{'routes':>9} {'octets a route':>15} {'routes/s':>9}")
        for step in (*(step for step in STEPS if step < routes), routes):
            seconds = 0.0
            while done < step:
                count = min(_BATCH, step - done)
                records = [_record(world, model, done + serial) for serial in range(count)]
                done += count
                begun = time.process_time()
                items = [(record, decode_route(record)) for record in records]
                view.apply(items, {("routes", 0): done})
                seconds += time.process_time() - begun
                rate += count
            octets, rate = _octets(view) / done, rate / seconds
            print(f"{done:>9} {octets:>15.0f} {rate:>9.0f}")
            told, rate = round(rate), 0.0
        view.close()
        ready = _reopened(folder, world)
    print(f"ready again after {ready:.2f} s")
    figures = {"routes": done, "octets_a_route": round(octets), "folded_a_second": told}
    print(json.dumps({"view": {**figures, "ready_seconds": round(ready, 2)}}))


def _record(world: World, model: events_pb2.Route, serial: int) -> Record:
    """The record of a route of its own, two of them a number."""
    route = events_pb2.Route()
    route.CopyFrom(model)
    block = int(world.block[3:]) + serial // 20_000
    route.number = f"700{block % 10**8:08d}{serial // 2 % 10_000:04d}"
    route.binding = f"018f2c6e-0000-7000-8000-{serial:012d}"
    if serial:  # the first keeps the model's parties, to be found again
        route.tag_a, route.tag_b = os.urandom(16), os.urandom(16)
    key = f"{route.number}/{route.binding}".encode()
    return Record("routes", 0, serial, key, route.SerializeToString(), envelope(), 0)


def _octets(view: ViewWriter) -> int:
    """On the disk, which is what is mapped."""
    view.tick(time.time())
    assert view.published is not None
    return view.published.stat().st_blocks * 512


def _reopened(folder: Path, world: World) -> float:
    begun = time.perf_counter()
    view = ViewWriter(folder / "view")
    assert not view.rebuilt_because
    view.tick(time.time())
    view.close()  # in a pod it stays open: one process may have the file once only
    reader = ViewReader(folder / "view", CallerTagger(FileKeyRing(folder / "keys")))
    found = reader.find(f"{world.block}0000", _A)
    took = time.perf_counter() - begun
    assert found.entry is not None
    reader.close()
    return took


if __name__ == "__main__":
    main()
