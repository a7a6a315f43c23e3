"""The `replay` command: a fresh cluster, the trips, and a report in tables.

Refuses to call a run good when an answer was wrong, an order failed or the audit log does not
verify: the exit status is 1 then.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
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
        bootstrap = cluster.brokers.kafka.bootstrap
        eventually(
            lambda: not compare_with_topics(cluster.log, cluster.vkey, bootstrap),
            120,
            what="the sequencer to catch up",
            every_seconds=0.5,
        )
        console.print(f"audit caught up {time.monotonic() - begun:.1f} s after the last order")
        verdict = verify_folder(cluster.log, cluster.vkey)
        console.print(f"audit: {verdict}", style="green" if verdict.ok else "red")
    return _status(console, tally, verdict)


def _replayed(cluster: Cluster, orders: Sequence[Order], speed: float) -> Tally:
    columns = ("replaying", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("replaying", total=len(orders))

        async def replayed() -> Tally:
            replay = Replay(
                cluster.addresses["binding"],
                cluster.routers,
                _TENANT,
                _POOL,
                speed=speed,
                progress=lambda: progress.advance(task),
            )
            return await replay.run(orders)

        return asyncio.run(replayed())


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
    table = Table("milliseconds", "p50", "p90", "p99", "max", "samples")
    for name, values in (
        ("CreateBinding", tally.create_ms),
        ("ReleaseBinding", tally.release_ms),
        ("RouteCall", tally.route_ms),
        ("create answered → every router connects", tally.routable_ms),
        ("release answered → every router refuses", tally.refused_ms),
    ):
        cells = (f"{percentile(values, share):.1f}" for share in (0.5, 0.9, 0.99, 1.0))
        table.add_row(name, *cells, str(len(values)))
    console.print(table)


def _status(console: Console, tally: Tally, verdict: Verdict) -> int:
    for reason, number in tally.failed.items():
        console.print(f"{number} orders failed: {reason}", style="red")
    for wrong in tally.wrong[:10]:
        console.print(f"wrong answer: {wrong}", style="red")
    return 0 if verdict.ok and not tally.failed and not tally.wrong else 1
