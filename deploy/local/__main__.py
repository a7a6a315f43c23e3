"""The command line of the local cluster: `python -m deploy.local COMMAND`.

Every command is a function that takes the parsed arguments and returns the exit status; it runs
in the foreground and leaves nothing running behind it.
"""

import argparse
import contextlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from types import FrameType

from rich.console import Console

from deploy.local.brokers import Brokers, FolderInUse
from deploy.local.jars import PreparationFailed
from deploy.local.places import LOCAL
from deploy.local.process import ChildDied, ChildNotReady, watch

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
    return top


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
