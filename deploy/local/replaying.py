"""The `replay` command: a fresh cluster, the trips, and a report in tables.

Refuses to call a run good when an answer was wrong, an order failed or the audit log does not
verify: the exit status is 1 then.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table

from deploy.local.clients import Pools
from deploy.local.cluster import Cluster
from deploy.local.replay import Replay, Tally, percentile
from deploy.local.trips import NotTrips, Order, read_orders
from deploy.local.waiting import eventually
from services.audit.compare import compare_with_topics
from services.audit.verify import Verdict, verify_folder

_TENANT: Final = "citytaxi"
_POOL: Final = "rides"
_DEFAULT_SECONDS: Final = 60.0
_ALONE: Final = 200  # orders whose changes are timed one by one
_ROUTABLE: Final = "create answered → every router connects"
_REFUSED: Final = "release answered → every router refuses"
_ORDERS_PER_BLOCK: Final = 8000  # of 10,000 numbers; each cools for a day after its order


def run(args: argparse.Namespace, console: Console) -> int:
    """Runs the command; returns the exit status."""
    try:
        orders, refused = read_orders(args.trips, args.seed, args.limit)
    except (NotTrips, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    if not orders:
        print("the file holds no trips", file=sys.stderr)
        return 2
    console.print(f"{len(orders)} trips; {refused} rows are none")
    begun = time.monotonic()
    with Cluster(args.data, routers=args.routers).wipe() as cluster:
        console.print(f"{len(cluster.children)} processes up in {time.monotonic() - begun:.1f} s")
        with Pools(cluster.addresses["allocator"], _TENANT) as pools:
            pools.create(_POOL)
            for block in range(len(orders) // _ORDERS_PER_BLOCK + 1):
                pools.register(f"700{10_000_000 + block:08d}", _POOL)
        span = (orders[-1].release_at - orders[0].bind_at).total_seconds()
        tally = _replayed(cluster, orders, args.speed or max(1.0, span / _DEFAULT_SECONDS))
        _report(console, tally)
        begun = time.monotonic()

        def caught_up() -> bool:
            bootstrap = cluster.brokers.kafka.bootstrap
            return not compare_with_topics(cluster.log, cluster.vkey, bootstrap)

        eventually(caught_up, 120, what="the sequencer to catch up", every_seconds=0.5)
        console.print(f"audit caught up {time.monotonic() - begun:.1f} s after the last order")
        idle = asyncio.run(_alone(cluster, orders[:_ALONE]))
        rows = {_ROUTABLE: idle.routable_ms, _REFUSED: idle.refused_ms}
        _milliseconds(console, "on an idle cluster, one order at a time", rows)
        eventually(caught_up, 120, what="the sequencer to catch up", every_seconds=0.5)
        verdict = verify_folder(cluster.log, cluster.vkey)
        console.print(f"audit: {verdict}", style="green" if verdict.ok else "red")
    return _status(console, tally, verdict)


def _replayed(cluster: Cluster, orders: Sequence[Order], speed: float) -> Tally:
    columns = ("replaying", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("replaying", total=len(orders))

        async def replayed() -> Tally:
            return await _replay(cluster, speed, lambda: progress.advance(task)).run(orders)

        return asyncio.run(replayed())


async def _alone(cluster: Cluster, orders: Sequence[Order]) -> Tally:
    return await _replay(cluster, 1.0).one_by_one(orders)


def _replay(cluster: Cluster, speed: float, progress: Callable[[], None] = lambda: None) -> Replay:
    return Replay(
        cluster.addresses["binding"],
        cluster.routers,
        _TENANT,
        _POOL,
        speed=speed,
        progress=progress,
    )


def _report(console: Console, tally: Tally) -> None:
    calls = len(tally.route_ms)
    console.print(
        f"{tally.orders} orders, {calls} route decisions in {tally.seconds:.1f} s: "
        f"{tally.orders / tally.seconds:.0f} orders/s, {calls / tally.seconds:.0f} decisions/s"
    )
    table = Table("decision", "calls")
    for kind, number in tally.decisions.most_common():
        table.add_row(kind, str(number))
    console.print(table)
    _milliseconds(console, "while replaying", {
        "CreateBinding": tally.create_ms,
        "ReleaseBinding": tally.release_ms,
        "RouteCall": tally.route_ms,
        _ROUTABLE: tally.routable_ms,
        _REFUSED: tally.refused_ms,
    })  # fmt: skip


def _milliseconds(console: Console, when: str, rows: dict[str, list[float]]) -> None:
    table = Table(f"milliseconds {when}", "p50", "p90", "p99", "max", "samples")
    for name, values in rows.items():
        cells = (f"{percentile(values, share):.1f}" for share in (0.5, 0.9, 0.99, 1.0))
        table.add_row(name, *cells, str(len(values)))
    console.print(table)


def _status(console: Console, tally: Tally, verdict: Verdict) -> int:
    for reason, number in tally.failed.items():
        console.print(f"{number} orders failed: {reason}", style="red")
    for wrong in tally.wrong[:10]:
        console.print(f"wrong answer: {wrong}", style="red")
    return 0 if verdict.ok and not tally.failed and not tally.wrong else 1
