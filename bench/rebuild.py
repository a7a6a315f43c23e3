"""How fast a lost store of bindings is rebuilt from Kafka: `python -m bench rebuild`.

Fills the state and route topics with bindings as the service publishes them, sealed and tagged, on
brokers of its own, and runs `python -m services.binding rebuild` on an empty Valkey.
"""

import json
import os
import shutil
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any, Final

import redis
from axbridge.binding.v1 import events_pb2
from axbridge.runtime.v1 import outbox_pb2
from confluent_kafka import Producer

from deploy.local.brokers import Brokers
from deploy.local.kafka import quiet_admin
from services.binding.domain import Answered, Binding, Direction, Terms
from services.binding.messages import sealed
from services.binding.records import Records
from services.binding.vault import KeyedTags, RouteSeal, Vault
from services.runtime import topics
from services.runtime.clock import SystemClock
from services.runtime.envelope import Envelope
from services.runtime.ids import TimeOrderedIds
from services.runtime.keyring import EvidenceKeys, FileKeyRing
from services.runtime.phone import PhoneNumber
from services.runtime.sealing import EvidenceWriter, PurgeSealer
from services.runtime.wrapping import wrap_route_key

PARTITIONS: Final = 16
_PAIRS: Final = 50  # of a number
COMMAND: Final = (sys.executable, "-m", "services.binding")
_TENANT: Final = "bench"
_LIFE_MS: Final = 3 * 86_400_000


def run(folder: Path, bindings: int) -> dict[str, Any]:
    """Fills, rebuilds; returns what was measured."""
    shutil.rmtree(folder, ignore_errors=True)
    with Brokers(folder / "brokers", appendonly=False) as brokers:
        bootstrap = brokers.kafka.bootstrap
        topics.ensure(quiet_admin(bootstrap), PARTITIONS)
        ring, public = FileKeyRing(folder / "ring"), EvidenceKeys.generate(folder / "evidence")
        fill(bootstrap, ring, public, bindings, lambda: time.time_ns() // 1_000_000 + _LIFE_MS)
        with redis.Redis.from_url(brokers.valkey.url) as store:
            before = store.info("memory")["used_memory"]
            begun = time.perf_counter()
            said = _rebuild(folder, bootstrap, brokers.valkey.url)
            seconds = time.perf_counter() - begun
            used = store.info("memory")["used_memory"] - before
    return {
        "bindings": bindings,
        "per_second": round(bindings / said["seconds"]),
        "per_second_with_the_start_of_the_process": round(bindings / seconds),
        "records": said["records"],
        "valkey_bytes_per_binding": round(used / bindings),
    }


def fill(
    bootstrap: str,
    ring: FileKeyRing,
    public: bytes,
    bindings: int,
    end_ms: int,
) -> None:
    """Publishes live bindings and their route keys."""
    clock, ids, tags = SystemClock(), TimeOrderedIds(), KeyedTags(ring)
    vault = Vault(PurgeSealer(ring), EvidenceWriter(public, ring))
    records = Records(dict.fromkeys((topic.name for topic in topics.CATALOGUE), PARTITIONS))
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 20})
    seals: dict[str, RouteSeal] = {}

    def publish(sequence: int, entry: bytes) -> None:
        for record in outbox_pb2.OutboxEntry.FromString(entry).records:
            envelope = Envelope(
                record.event_id or f"binding-1-{sequence}", record.type, "/axbridge/binding/c0",
                record.time_ms, record.version, 1, (1 << 32) + sequence,
            )  # fmt: skip
            producer.produce(
                record.topic, partition=record.partition, key=record.key, value=record.value,
                headers=envelope.headers(),
            )  # fmt: skip
        producer.poll(0)
        if sequence % 10_000 == 0:
            producer.flush()

    for place in range(bindings):
        now, serial = clock.epoch_ms(), place // _PAIRS
        a, b = f"+8613{place:09d}", f"+8615{place:09d}"
        terms = Terms("load", f"order-{place}", "taxi", end_ms, Direction.BOTH, 0, b"x" * 32)
        binding = Binding(
            _TENANT, ids.new(), f"700{20_000_000 + serial // 10_000:08d}{serial % 10_000:04d}",
            terms, tags.party(_TENANT, a), tags.party(_TENANT, b), place + 1, 3_600_000, False,
            now, now, (Answered(str(uuid.uuid4()), b"h" * 16, now, 1),),
        )  # fmt: skip
        key_id = vault.route_key_id(binding)
        if key_id not in seals:
            seals[key_id] = RouteSeal(key_id, os.urandom(32))
            wrapped = sealed(wrap_route_key(ring, key_id, seals[key_id].key))
            key = events_pb2.RouteKey(key_id=key_id, wrapped=wrapped).SerializeToString()
            publish(place, records.route_key(key_id, key, now))
        copies = vault.seal_new(binding, PhoneNumber(a), PhoneNumber(b), seals[key_id])
        tag = tags.order(_TENANT, terms.order_id).hex()
        publish(place, records.entry(binding, copies, tag)[1])
    producer.flush()


def environment(folder: Path, bootstrap: str, url: str) -> dict[str, str]:
    """What binding is started with; there is no allocator."""
    return os.environ | {
        "BINDING_KAFKA_BOOTSTRAP": bootstrap,
        "BINDING_REDIS_URL": url,
        "BINDING_ALLOCATOR_TARGET": "127.0.0.1:1",
        "BINDING_KEYRING_DIR": str(folder / "ring"),
        "BINDING_EVIDENCE_PUBLIC_KEY": str(folder / "evidence"),
    }


def _rebuild(folder: Path, bootstrap: str, url: str) -> dict[str, Any]:
    """What the command said."""
    done = subprocess.run(
        [*COMMAND, "rebuild"],
        env=environment(folder, bootstrap, url),
        stdout=subprocess.PIPE,
        check=True,
    )
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said
