"""Server CPU per RouteCall above an empty handler: `python -m bench.route_call`.

Two servers, each in a process of its own, with the same ThreadedServer, guard, metrics and
messages: one answers a constant, the other decides from a view of `ROUTES` routes in LMDB, opens
the callee, seals and journals. Both are pinned to the first CPU, as workers are by default where
there are no more CPUs than workers, and the load comes from the others (`--no-pin`: neither is).
Runs alternate; the median of their differences is the figure. CPU is user and system time of the
whole server process, journal fsyncs included. Then the second server is asked in batches.
"""

import argparse
import json
import os
import queue
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import grpc
from axbridge.router.v1 import call_pb2, router_service_pb2_grpc
from axbridge.router.v1 import router_service_pb2 as rpc
from axbridge.type.v1 import phone_number_pb2

from services.router.handlers import Router
from services.router.journal import Journal
from services.router.opener import CallerTagger, RouteOpener
from services.router.packed import JournalCipher
from services.router.recorder import JournalRecorder
from services.router.servicer import RouterServicer
from services.router.settings import RouterSettings
from services.router.store import ViewReader, ViewWriter
from services.router.subscriber import decode_key, decode_route
from services.router.translate import duration, timestamp
from services.runtime.clock import SystemClock
from services.runtime.keyring import FileKeyRing
from services.runtime.metrics import Metrics
from services.runtime.record import Record
from services.runtime.server import Options, ThreadedServer
from services.runtime.telemetry import configure_logging
from tests.router_world import World, envelope

ROUTES, CALLS, IN_FLIGHT, REPEATS = 2000, 4000, 16, 9
BATCH, BATCHES = 100, 100


class Empty(router_service_pb2_grpc.RouterServiceServicer):
    """Answers a constant of the same shape, and nothing else."""

    def RouteCall(self, request: rpc.RouteCallRequest, context: object) -> rpc.RouteCallResponse:
        connect = call_pb2.Connect(
            callee=phone_number_pb2.PhoneNumber(e164="+8613912345678"),
            display_number="700123456780001", mark="【号码保护】", max_duration=duration(1_800_000),
            recording=call_pb2.RECORDING_OFF, binding="tenants/t-0123456789ab/bindings/b0001",
            binding_version=1,
        )  # fmt: skip
        return rpc.RouteCallResponse(
            connect=connect, view_age=duration(100), decide_time=timestamp(1_700_000_000_000)
        )


def prepare(folder: Path) -> list[tuple[str, str]]:
    """Writes a view; returns callers and the numbers they may dial."""
    world = World(folder)
    pairs, items = [], []
    for i in range(ROUTES):
        number = world.number()
        a, b = f"+86138{i:08d}", f"+86139{i:08d}"
        route = world.route(number, f"b{i:04d}", a, b)
        key = f"{number}/{route.binding}".encode()
        record = Record("routes", 0, i, key, route.SerializeToString(), envelope(), 0)
        items.append((record, decode_route(record)))
        pairs += [(a[3:], number), (b[3:], number)]
    view = ViewWriter(folder / "view")
    for offset, route_key in enumerate(world.wrapped_keys()):
        record = Record(
            "keys", 0, offset, route_key.key_id.encode(), route_key.SerializeToString(),
            envelope(), 0,
        )  # fmt: skip
        view.apply([(record, decode_key(record))], {("keys", 0): offset + 1})
    view.apply(items, {("routes", 0): ROUTES})
    view.tick(time.time())
    view.close()
    return pairs


def serve(kind: str, folder: Path, threads: int) -> None:
    """One server; prints its port."""
    configure_logging("router", "WARNING")
    metrics = Metrics("router")
    server = ThreadedServer(Options(threads=threads), metrics)
    empty: Any = Empty
    servicer = empty() if kind == "empty" else _full(folder, metrics)
    server.add(router_service_pb2_grpc.add_RouterServiceServicer_to_server, servicer)
    print(server.start(), flush=True)
    server.serve()


def _full(folder: Path, metrics: Metrics) -> RouterServicer:
    keyring = FileKeyRing(folder / "keys")
    view = ViewReader(folder / "view", CallerTagger(keyring))
    journal = Journal(folder / "journal", "bench-0")
    recorder = JournalRecorder(journal, JournalCipher(keyring, journal.name))
    opener = RouteOpener(view, keyring)
    servicer = RouterServicer(Router(view, opener, recorder, SystemClock(), 10**9), metrics)

    def refresh() -> None:  # as in a worker
        while True:
            time.sleep(0.25)
            view.refresh()
            servicer.flush()

    threading.Thread(target=refresh, daemon=True).start()
    return servicer


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run(server: Any, port: int, pairs: list[tuple[str, str]]) -> tuple[float, float]:
    """CPU µs of the server per call, and calls per second."""
    slots: queue.SimpleQueue[None] = queue.SimpleQueue()
    for _ in range(IN_FLIGHT):
        slots.put(None)
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        ask = router_service_pb2_grpc.RouterServiceStub(channel).RouteCall
        chosen = random.choices(pairs, k=CALLS)
        calls = []
        before, started = _cpu_seconds(server.pid), time.perf_counter()
        for i, (caller, dialled) in enumerate(chosen):
            slots.get()
            request = rpc.RouteCallRequest(
                call_id=f"bench-{i}", carrier="cmcc", caller=caller, dialled=dialled, trunk="t1"
            )
            call = ask.future(request, timeout=20)
            call.add_done_callback(lambda _: slots.put(None))
            calls.append(call)
        assert all(call.result().HasField("connect") for call in calls)
        took, after = time.perf_counter() - started, _cpu_seconds(server.pid)
    return (after - before) / CALLS * 1e6, CALLS / took


def run_batches(server: Any, port: int, pairs: list[tuple[str, str]]) -> float:
    """CPU µs of the server per decision, a hundred a call."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        ask = router_service_pb2_grpc.RouterServiceStub(channel).BatchRouteCalls
        batches = [
            rpc.BatchRouteCallsRequest(
                requests=[
                    rpc.RouteCallRequest(
                        call_id=f"bench-{batch}-{i}", carrier="cmcc", caller=caller,
                        dialled=dialled, trunk="t1",
                    )
                    for i, (caller, dialled) in enumerate(random.choices(pairs, k=BATCH))
                ]
            )
            for batch in range(BATCHES)
        ]  # fmt: skip
        before = _cpu_seconds(server.pid)
        for batch in batches:
            results = ask(batch, timeout=20).results
            assert sum(result.response.HasField("connect") for result in results) == BATCH
        return (_cpu_seconds(server.pid) - before) / (BATCH * BATCHES) * 1e6


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.route_call")
    parser.add_argument("--serve", choices=("empty", "full"))
    parser.add_argument("--folder", type=Path)
    parser.add_argument(
        "--threads", type=int, default=RouterSettings.model_fields["threads"].default
    )
    parser.add_argument("--pin", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--cpu", type=int, help="of a server")
    arguments = parser.parse_args()
    if arguments.cpu is not None:
        os.sched_setaffinity(0, {arguments.cpu})
    if arguments.serve:
        serve(arguments.serve, arguments.folder, arguments.threads)
        return
    with tempfile.TemporaryDirectory(prefix="axbridge-bench-") as text:
        folder = Path(text)
        pairs = prepare(folder)
        more: list[str] = []
        first, *others = sorted(os.sched_getaffinity(0))
        if arguments.pin and others:
            os.sched_setaffinity(0, others)
            more = ["--cpu", str(first)]
        servers: dict[str, tuple[Any, int]] = {}
        try:
            for kind in ("empty", "full"):
                servers[kind] = _start(kind, folder, arguments.threads, more)
            report(servers, pairs)
        finally:
            for server, _ in servers.values():
                server.terminate()
                server.wait()


def _start(kind: str, folder: Path, threads: int, more: list[str]) -> tuple[Any, int]:
    metrics_dir = folder / f"metrics-{kind}"
    metrics_dir.mkdir()
    command = [
        sys.executable,
        "-m",
        "bench.route_call",
        "--serve",
        kind,
        "--folder",
        str(folder),
        "--threads",
        str(threads),
        *more,
    ]
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(metrics_dir)}  # as in a pod
    server = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True)
    assert server.stdout is not None
    return server, int(server.stdout.readline())


def report(servers: dict[str, tuple[Any, int]], pairs: list[tuple[str, str]]) -> None:
    """Runs both in turns and shows each pair of runs and the medians."""
    found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in servers}
    for repeat in range(-1, REPEATS):  # the first is to warm up
        for kind, (server, port) in servers.items():
            figures = run(server, port, pairs)
            if repeat >= 0:
                found[kind].append(figures)
    print(f"{'run':>6} {'empty µs':>9} {'full µs':>9} {'above µs':>9} {'empty/s':>9} {'full/s':>9}")
    rows = [
        (empty[0], full[0], full[0] - empty[0], empty[1], full[1])
        for empty, full in zip(found["empty"], found["full"], strict=True)
    ]
    for number, row in enumerate(rows, 1):
        print(f"{number:>6} " + " ".join(f"{value:9.1f}" for value in row))
    medians = [statistics.median(column) for column in zip(*rows, strict=True)]
    print("median " + " ".join(f"{value:9.1f}" for value in medians))
    batches = [run_batches(*servers["full"], pairs) for _ in range(REPEATS + 1)][1:]
    batched = statistics.median(batches)
    print(f"in batches of {BATCH}: " + ", ".join(f"{spent:.1f}" for spent in batches), "µs each")
    print(
        json.dumps(
            {
                "route_call_cpu_above_empty_us": round(medians[2], 1),
                "route_batch_decisions_per_core_second": round(1e6 / batched),
            }
        )
    )


if __name__ == "__main__":
    main()
