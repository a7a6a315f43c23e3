"""How bindings that are due at the same moment are released: `python -m bench expiry`.

Fills the state and route topics as `bench rebuild` does, lets binding heal an empty store from
them, and waits until every release is on Kafka. Each must come once and never before its time; the
lag is from a binding's expiry to its event.
"""

import os
import shutil
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from axbridge.binding.v1 import events_pb2
from confluent_kafka import OFFSET_END, Consumer, TopicPartition

from bench import rebuild
from bench.under_load import tree_seconds
from deploy.local.brokers import Brokers
from deploy.local.kafka import quiet_admin
from deploy.local.process import Child
from deploy.local.replay import percentile
from services.binding.messages import millis
from services.runtime import topics
from services.runtime.keyring import EvidenceKeys, FileKeyRing

_START_SECONDS: Final = 30
_PER_SECOND: Final = 2500  # filled, published and healed before they are due
_PATIENCE_SECONDS: Final = 120  # without any release
_TOPIC: Final = topics.BINDING_BINDINGS.name


def run(folder: Path, bindings: int) -> dict[str, Any]:
    """Fills, waits until they are due, and for all releases; returns what was measured."""
    shutil.rmtree(folder, ignore_errors=True)
    due_ms = round((time.time() + _START_SECONDS + bindings / _PER_SECOND) * 1000)
    with Brokers(folder / "brokers") as brokers:
        bootstrap = brokers.kafka.bootstrap
        topics.ensure(quiet_admin(bootstrap), rebuild.PARTITIONS)
        ring, public = FileKeyRing(folder / "ring"), EvidenceKeys.generate(folder / "evidence")
        rebuild.fill(bootstrap, ring, public, bindings, due_ms)
        heard = Consumer({"bootstrap.servers": bootstrap, "group.id": "unused"})
        places = range(rebuild.PARTITIONS)
        heard.assign([TopicPartition(_TOPIC, place, OFFSET_END) for place in places])
        heard.poll(1)  # the ends are known from here on, before anything is released
        binding = Child(
            "binding", rebuild.COMMAND, log=folder / "binding.log",
            env=rebuild.environment(folder, bootstrap, brokers.valkey.url),
        )  # fmt: skip
        try:
            binding.start()
            pids = {each.name: each.pid for each in (*brokers.children, binding)}
            return _measured(heard, bindings, due_ms, pids)
        finally:
            binding.stop()
            heard.close()


def _measured(
    heard: Consumer, bindings: int, due_ms: int, pids: Mapping[str, int]
) -> dict[str, Any]:
    lags: list[float] = []
    seen: Counter[str] = Counter()
    before, early, last_ms = dict.fromkeys(pids, 0.0), 0, due_ms
    waited = time.monotonic()
    while len(seen) < bindings:
        if time.time() * 1000 < due_ms:
            before = {name: tree_seconds(pid) for name, pid in pids.items()}
            waited = time.monotonic()
        if time.monotonic() > waited + _PATIENCE_SECONDS:
            raise RuntimeError(f"{bindings - len(seen)} were not released")
        for message in heard.consume(1000, timeout=0.5):
            if message.error() is not None or ("ce_type", _RELEASED) not in message.headers():
                continue
            waited = time.monotonic()
            event = events_pb2.BindingReleased.FromString(message.value())
            seen[event.fact.binding] += 1
            published_ms = message.timestamp()[1]
            last_ms = max(last_ms, published_ms)
            lags.append((published_ms - millis(event.fact.expire_time)) / 1000)
            early += millis(event.release_time) < millis(event.fact.expire_time)
    spent = {name: tree_seconds(pid) - before[name] for name, pid in pids.items()}
    seconds = (last_ms - due_ms) / 1000
    return {
        "bindings": bindings,
        "released_twice": sum(count > 1 for count in seen.values()),
        "released_early": early,
        "per_second": round(bindings / seconds),
        "lag_seconds": {
            f"p{share * 100:g}": round(percentile(lags, share), 3) for share in (0.5, 0.99, 1.0)
        },
        "cpu_ms_per_item": {name: round(s * 1000 / bindings, 3) for name, s in spent.items()},
        "cores": os.cpu_count(),
    }


_RELEASED: Final = b"axbridge.binding.v1.BindingReleased"
