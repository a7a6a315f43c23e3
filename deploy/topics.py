"""Creates and checks the Kafka topics from the command line: `python -m deploy.topics`.

Runs once before the services start, and again whenever the catalogue has grown. Refuses to change
a topic that exists. Invariant: repeating it changes nothing.
"""

import argparse
import logging
import sys
import time
from collections.abc import Callable

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from services.runtime import topics
from services.runtime.errors import FailedPrecondition

_ASK_SECONDS = 1.0  # of one attempt; librdkafka itself waits for the connection that long


class BrokersMissing(Exception):
    """Fewer brokers answered in time than a topic needs replicas."""


def await_brokers(
    admin: AdminClient,
    wanted: int,
    seconds: float,
    monotonic: Callable[[], float] = time.monotonic,
) -> None:
    """Returns once `wanted` brokers are known.

    Raises:
        BrokersMissing: they were not within `seconds`.
    """
    deadline = monotonic() + seconds
    while True:
        try:
            found = len(admin.list_topics(timeout=_ASK_SECONDS).brokers)
        except KafkaException:
            found = 0
        if found >= wanted:
            return
        if monotonic() >= deadline:
            raise BrokersMissing(f"{found} of {wanted} brokers answered in {seconds:g} s")


def parser() -> argparse.ArgumentParser:
    """All options."""
    options = argparse.ArgumentParser(prog="python -m deploy.topics", description=__doc__)
    options.add_argument("--bootstrap", required=True, help="host:port, several with commas")
    options.add_argument(
        "--partitions", type=int, default=64, help="of each new topic; never changes afterwards"
    )
    options.add_argument("--replication", type=int, default=1, help="copies of each new topic")
    options.add_argument("--wait", type=float, default=60.0, metavar="SECONDS", help="for brokers")
    options.add_argument(
        "--check", action="store_true", help="create nothing; fail if any is missing"
    )
    return options


def main(argv: list[str] | None = None) -> int:
    """0: every topic is there and as it must be. 1: it is not, and stderr says what."""
    args = parser().parse_args(argv)
    admin = AdminClient({"bootstrap.servers": args.bootstrap}, logger=_silent())
    try:
        await_brokers(admin, args.replication, args.wait)
        if not args.check:
            topics.ensure(admin, partitions=args.partitions, replication=args.replication)
        for name, count in _counts(admin, 0.0 if args.check else args.wait).items():
            print(f"{name}\t{count} partitions")
    except (BrokersMissing, FailedPrecondition, KafkaException) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _counts(admin: AdminClient, seconds: float) -> dict[str, int]:
    """A topic that was just created may be unknown to the broker asked for a moment."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return topics.partition_counts(admin, topics.CATALOGUE)
        except FailedPrecondition as error:
            if error.reason != "TOPIC_MISSING" or time.monotonic() >= deadline:
                raise
            admin.poll(0.1)  # a pause


def _silent() -> logging.Logger:
    logger = logging.getLogger("deploy.topics.librdkafka")  # each failed attempt is no news
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    return logger


if __name__ == "__main__":
    sys.exit(main())
