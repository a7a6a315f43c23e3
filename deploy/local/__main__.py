"""The command line of the local cluster: `python -m deploy.local COMMAND`.

Every command is a function that takes the parsed arguments and returns the exit status; it runs
in the foreground and leaves nothing running behind it.
"""

import argparse
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from types import FrameType

from rich.console import Console
from rich.table import Table

from deploy.local.brokers import Brokers, FolderInUse, in_use
from deploy.local.cluster import Cluster
from deploy.local.jars import PreparationFailed
from deploy.local.places import LOCAL
from deploy.local.process import ChildDied, ChildNotReady, watch
from deploy.local.waiting import Late, eventually

_ENDING = (signal.SIGINT, signal.SIGTERM)


def brokers(args: argparse.Namespace) -> int:
    """Runs both brokers until ctrl-C or until one of them dies."""
    console = Console()
    with (
        until_interrupted(),
        Brokers(args.data, kafka_port=args.kafka_port, valkey_port=args.valkey_port) as running,
    ):
        for name, address in running.environment().items():
            console.print(f"export {name}={address}", highlight=False, soft_wrap=True)
        console.print(f"data and logs are under {args.data}; ctrl-C stops both", soft_wrap=True)
        watch(running.children, Event())
    return 0


def up(args: argparse.Namespace) -> int:
    """Runs the whole cluster until ctrl-C or until one of its processes dies."""
    console = Console()
    begun = time.monotonic()
    with (
        until_interrupted(),
        Cluster(
            args.data,
            routers=args.routers,
            workers=args.workers,
            bindings=args.bindings,
            ports=dict(args.port),
        ) as cluster,
    ):
        table = Table("process", "gRPC", "health and metrics")
        for name, address in cluster.addresses.items():
            table.add_row(name, address, f"http://{cluster.health[name]}/metrics")
        for name, address in cluster.brokers.environment().items():
            table.add_row(name, address, "")
        console.print(table)
        console.print(f"up in {time.monotonic() - begun:.1f} s; logs are under {args.data}/logs")
        console.print("ctrl-C stops everything", style="bold")
        watch(cluster.children, Event())
    return 0


def down(args: argparse.Namespace) -> int:
    """Stops a cluster that another terminal runs, and waits until it is gone."""
    path = args.data / "addresses.json"
    if not path.exists() or not in_use(args.data):  # a killed one left its addresses behind
        print(f"no cluster runs under {args.data}")
        return 0
    os.kill(json.loads(path.read_text())["pid"], signal.SIGTERM)
    eventually(lambda: not in_use(args.data), 60, what="the cluster to stop")
    return 0


def demo(args: argparse.Namespace) -> int:
    """The main job on a fresh cluster, told in tables."""
    from deploy.local import demo as story

    try:
        story.run(args.data, Console())
    except (story.DemoFailed, Late) as failure:
        print(f"the demo failed: {failure}", file=sys.stderr)
        return 1
    return 0


def replay(args: argparse.Namespace) -> int:
    """Every trip of a file as an order, time compressed."""
    from deploy.local import replaying

    return replaying.run(args, Console())


@contextlib.contextmanager
def until_interrupted() -> Iterator[None]:
    """Ends quietly at ctrl-C or SIGTERM; further ones do not disturb the cleaning up."""
    asked = False

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if not asked:
            asked = True
            raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in _ENDING}
    try:
        with contextlib.suppress(KeyboardInterrupt):
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    top = argparse.ArgumentParser(prog="python -m deploy.local", description=__doc__)
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("brokers", help="run Kafka and Valkey until ctrl-C")
    add_broker_options(command)
    command.set_defaults(run=brokers)

    command = commands.add_parser("up", help="run the whole system until ctrl-C")
    command.add_argument("--data", type=Path, default=LOCAL / "cluster", help="data folder")
    command.add_argument("--routers", type=int, default=1, help="router pods")
    command.add_argument("--workers", type=int, default=1, help="worker processes per router pod")
    command.add_argument("--bindings", type=int, default=1, help="binding processes")
    command.add_argument(
        "--port",
        type=_named_port,
        action="append",
        default=[],
        metavar="NAME=PORT",
        help="kafka, valkey, allocator, binding, router-1, audit …; default: free ones",
    )
    command.set_defaults(run=up)

    command = commands.add_parser("down", help="stop what `up` runs in another terminal")
    command.add_argument("--data", type=Path, default=LOCAL / "cluster", help="data folder")
    command.set_defaults(run=down)

    command = commands.add_parser("demo", help="the main job, told step by step")
    command.add_argument("--data", type=Path, default=LOCAL / "demo", help="data folder; emptied")
    command.set_defaults(run=demo)

    command = commands.add_parser("replay", help="replay a file of trips as orders")
    command.add_argument("trips", type=Path, help="CSV with pickup and drop-off times")
    command.add_argument("--data", type=Path, default=LOCAL / "replay", help="data folder; emptied")
    command.add_argument(
        "--speed", type=float, help="file seconds per second; default: a minute in all"
    )
    command.add_argument("--limit", type=int, help="only the first trips of the file")
    command.add_argument("--seed", type=int, default=1, help="of numbers and calls")
    command.add_argument("--routers", type=int, default=2, help="router pods")
    command.set_defaults(run=replay)
    return top


def _named_port(text: str) -> tuple[str, int]:
    name, equals, port = text.partition("=")
    if not (name and equals and port.isdecimal() and 0 < int(port) < 65536):
        raise argparse.ArgumentTypeError("NAME=PORT, e.g. binding=7002")
    return name, int(port)


def add_broker_options(command: argparse.ArgumentParser) -> None:
    """The options of every command that starts brokers."""
    command.add_argument("--data", type=Path, default=LOCAL / "brokers", help="data folder")
    command.add_argument("--kafka-port", type=int, help="default: a free one")
    command.add_argument("--valkey-port", type=int, help="default: a free one")


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    try:
        status: int = args.run(args)
    except (ChildDied, ChildNotReady, FolderInUse, PreparationFailed) as error:
        print(error, file=sys.stderr)
        return 1
    return status


if __name__ == "__main__":
    sys.exit(main())
