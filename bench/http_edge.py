"""The HTTP edge against the gRPC edge of one process: `python -m bench.http_edge`.

The server is a worker's: both edges on the same handlers, view and journal, pinned to the first
CPU; the load comes from the others, in turns, with as many calls in flight. The ratio of the rates
is the figure; the CPU of the server per call says the same without the clients' own share.
"""

import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from axbridge.router.v1 import router_service_pb2_grpc

from bench.route_call import CALLS, IN_FLIGHT, REPEATS, _cpu_seconds, _full, prepare, run
from services.router.httpedge import HttpEdge
from services.runtime.metrics import Metrics
from services.runtime.server import Options, ThreadedServer
from services.runtime.telemetry import configure_logging


def serve(folder: Path) -> None:
    """Both edges; prints their ports."""
    configure_logging("router", "WARNING")
    metrics = Metrics("router")
    servicer = _full(folder, metrics)
    server = ThreadedServer(Options(threads=4), metrics)
    server.add(router_service_pb2_grpc.add_RouterServiceServicer_to_server, servicer)
    http = HttpEdge(servicer, metrics, "axbridge.invalid").server("127.0.0.1:0")
    http.start()
    print(server.start(), http.port, flush=True)
    server.serve()


def run_http(server: Any, port: int, pairs: list[tuple[str, str]]) -> tuple[float, float]:
    """CPU µs of the server per call, and calls per second."""
    answers: list[bytes] = []
    before, started = _cpu_seconds(server.pid), time.perf_counter()
    threads = [
        threading.Thread(target=_switch, args=(port, random.choices(pairs, k=CALLS // IN_FLIGHT),
                                               answers))
        for _ in range(IN_FLIGHT)
    ]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took, after = time.perf_counter() - started, _cpu_seconds(server.pid)
    assert len(answers) == CALLS
    assert all(b'"connect"' in answer for answer in answers)
    return (after - before) / CALLS * 1e6, CALLS / took


def _switch(port: int, calls: list[tuple[str, str]], answers: list[bytes]) -> None:
    """One connection that is kept, a call at a time."""
    with socket.create_connection(("127.0.0.1", port)) as kept:
        kept.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for number, (caller, dialled) in enumerate(calls):
            asked = {"callId": f"bench-{number}", "carrier": "cmcc", "caller": caller,
                     "dialled": dialled, "trunk": "t1"}  # fmt: skip
            body = json.dumps(asked).encode()
            kept.sendall(
                b"POST /v1/route HTTP/1.1\r\nHost: router\r\nAccept: */*\r\n"
                b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
            )
            answer = b""
            while not answer.endswith(b"}"):  # the last octet of the one object
                answer += kept.recv(65536)
                if b"\r\n\r\n" not in answer:
                    continue
                head, _, rest = answer.partition(b"\r\n\r\n")
                if len(rest) == int(head.partition(b"Content-Length: ")[2].split(b"\r\n")[0]):
                    break
            answers.append(answer)


def main() -> None:
    """Prints the table."""
    if sys.argv[1:2] == ["--serve"]:
        serve(Path(sys.argv[2]))
        return
    with tempfile.TemporaryDirectory(prefix="axbridge-bench-") as text:
        folder = Path(text)
        pairs = prepare(folder)
        first, *others = sorted(os.sched_getaffinity(0))
        (folder / "metrics").mkdir()
        os.sched_setaffinity(0, {first})  # for the server to inherit
        server = subprocess.Popen(
            [sys.executable, "-m", "bench.http_edge", "--serve", text],
            stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder / "metrics")},
        )  # fmt: skip
        os.sched_setaffinity(0, others or {first})
        assert server.stdout is not None
        try:
            grpc_port, http_port = map(int, server.stdout.readline().split())
            rows = []
            for repeat in range(-1, REPEATS):  # the first is to warm up
                row = (*run(server, grpc_port, pairs), *run_http(server, http_port, pairs))
                if repeat >= 0:
                    rows.append((row[0], row[2], row[1], row[3], row[3] / row[1]))
        finally:
            server.terminate()
            server.wait()
    print(f"{'run':>6} {'grpc µs':>9} {'http µs':>9} {'grpc/s':>9} {'http/s':>9} {'ratio':>9}")
    for number, columns in enumerate(rows, 1):
        print(f"{number:>6} " + " ".join(f"{value:9.2f}" for value in columns))
    medians = [statistics.median(column) for column in zip(*rows, strict=True)]
    print("median " + " ".join(f"{value:9.2f}" for value in medians))
    print(json.dumps({"http_edge_rate_to_grpc": round(medians[4], 2)}))


if __name__ == "__main__":
    main()
