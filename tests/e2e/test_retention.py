"""Every file of the system from before a purge, and every key that is left after it: nothing opens.

Files are searched as octets: behind the name of a key stands the box that it seals, in a log
segment of Kafka, a tile bundle of the log, a router's view or a dump of the store alike. GCM
encrypts as CTR does, so each place is tried with each key without knowing what it is bound to.
"""

import asyncio
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import redis
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from pydantic import SecretStr

from deploy.local.kafka import quiet_admin
from deploy.local.waiting import eventually
from services.binding.purger import Purger
from services.binding.records import Records
from services.binding.service import cell_of, parts_of
from services.binding.settings import BindingSettings
from services.runtime import topics
from services.runtime.aead import SealBroken, Sealed
from services.runtime.clock import ManualClock
from services.runtime.keyring import FileKeyRing, KeyDestroyed
from services.runtime.sealing import month_begin, month_of
from services.runtime.wrapping import unwrap_route_key, wrapping_name
from tests import scene
from tests.scene import Scene, digits, routes

LABELS = (b"seal/v1", b"evidence/v1", b"wrap/v1", b"tag/v1", b"body/v1", b"nonce/v1")
_LONGEST = 64  # octets of a plaintext that are looked at
OPENED = {
    ("kafka", b"route"), ("kafka", b"purge"), ("router", b"route"), ("audit", b"purge"),
    ("store", b"route"), ("store", b"purge"),
}  # fmt: skip

Tried = dict[tuple[str, bytes], set[tuple[str, bytes]]]


class Found:
    """Copies of all files but the ring's, and of the store's keys, by the part of the system."""

    def __init__(self, stage: Scene) -> None:
        folder, self.tenant = stage.cluster.folder, stage.tenant.encode()
        self.octets: dict[str, list[bytes]] = {"store": dumped(stage)}
        for path in sorted(folder.rglob("*")):
            part = path.relative_to(folder).parts[0]
            if path.is_file() and part != "keys" and path.suffix not in {".index", ".timeindex"}:
                self.octets.setdefault(part.rstrip("-012"), []).append(path.read_bytes())

    def places(self, part: str, kind: bytes) -> set[tuple[str, bytes]]:
        """Names of keys and what stands behind each."""
        name = re.compile(rb"(" + kind + rb"/" + self.tenant + rb"/\d{6,8})", re.DOTALL)
        return {
            (found[1].decode(), octets[found.end() : found.end() + 120])
            for octets in self.octets.get(part, [])
            for found in name.finditer(octets)
        }

    def wrapped(self, key_id: str) -> set[bytes]:
        """Boxes of the route key, as any copy of its record has them."""
        name = wrapping_name(key_id, "1").encode()
        return {
            octets[at.end() : at.end() + 63][2:]
            for every in self.octets.values()
            for octets in every
            for at in re.finditer(re.escape(name) + rb"(?=\x12\x3d)", octets)
        }


def dumped(stage: Scene) -> list[bytes]:
    url = stage.cluster.brokers.valkey.url
    store: Any = redis.Redis.from_url(url)
    return [value for key in store.scan_iter() if (value := whole(store, key))]


def whole(store: Any, key: bytes) -> bytes:
    return b"".join(store.hvals(key)) if store.type(key) == b"hash" else b""


def keys_of(folder: Path, found: Found, route_keys: set[str]) -> set[bytes]:
    """Every key that the ring gives, and route keys that it still unwraps from some copy."""
    ring, keys = FileKeyRing(folder), set[bytes]()
    for path in folder.glob("*.key"):
        for label in LABELS:
            try:
                keys.add(ring.derive(path.stem.replace("+", "/"), label))
            except KeyDestroyed:
                break
    for key_id in route_keys:
        for box in found.wrapped(key_id):
            try:
                sealed = Sealed(wrapping_name(key_id, "1"), box)
                keys.add(unwrap_route_key(ring, key_id, sealed))
            except (KeyDestroyed, SealBroken):
                continue
    return keys


def opened(places: set[tuple[str, bytes]], keys: set[bytes], secrets: list[bytes]) -> bool:
    return any(
        secret in plain
        for _, behind in places
        for key in keys
        for plain in plaintexts(key, behind)
        for secret in secrets
    )


def plaintexts(key: bytes, behind: bytes) -> Iterator[bytes]:
    for skip in (0, 2, 3):  # at once, or behind a protobuf field's tag and length
        box = behind[skip:]
        if box[:1] == b"\x01" and len(box) > 13:
            counter = modes.CTR(box[1:13] + (2).to_bytes(4))
            yield Cipher(algorithms.AES(key), counter).decryptor().update(box[13 : 13 + _LONGEST])


def test_no_file_from_before_a_purge_opens_after_it(tmp_path: Path) -> None:
    with scene.playing(tmp_path / "cluster") as stage:
        stage.pool("rides")
        a, b = stage.mobile(), stage.mobile()
        made = stage.platform.bind("rides", a, b, "order-of-the-trip")
        routes(stage, a, digits(made), b)
        expiry = made.expire_time.ToDatetime(UTC)
        day = f"route/{stage.tenant}/{expiry:%Y%m%d}"
        secrets = [a.encode(), b.encode(), b"order-of-the-trip"]
        ring = stage.cluster.keys / "ring"

        def copied() -> tuple[Found, Tried, set[bytes]] | None:
            """Copies in which everything opens that should, as soon as all of it is on disk: else
            the search would find nothing, and this test prove nothing."""
            found = Found(stage)
            tried = {
                (part, kind): found.places(part, kind)
                for part in found.octets
                for kind in (b"route", b"purge")
            }
            keys = keys_of(ring, found, {day})
            proof = {place for place, boxes in tried.items() if opened(boxes, keys, secrets)}
            return (found, tried, keys) if proof >= OPENED else None

        copies = eventually(copied, scene.PATIENCE, what="copies that open", every_seconds=0.5)
        assert isinstance(copies, tuple)
        found, tried, before = copies
        asyncio.run(purge(stage, ring, expiry))
        FileKeyRing(ring).destroy(wrapping_name(day, "1"))  # the keeper's, a day after the day
        after = keys_of(ring, found, {day})
        assert after < before
        assert {place for place, boxes in tried.items() if opened(boxes, after, secrets)} == set()


async def purge(stage: Scene, ring: Path, expiry: datetime) -> None:
    """As the owner of the cell will, once the bucket's month is over."""
    settings = BindingSettings(
        kafka_bootstrap=stage.bootstrap,
        redis_url=SecretStr(stage.cluster.brokers.valkey.url),
        allocator_target="unused:1",
        keyring_dir=ring,
        evidence_public_key=stage.cluster.keys / "evidence",
    )
    cell, clock = cell_of(settings), ManualClock(month_begin(month_of(expiry) + 7))
    parts = parts_of(settings, cell, clock)

    async def tenants() -> list[str]:
        return [stage.tenant]

    counts = topics.partition_counts(quiet_admin(stage.bootstrap), topics.CATALOGUE)
    purger = Purger(
        cell, parts.bindings, Records(counts), parts.ring, clock, tenants, store_agrees=False
    )
    await cell.open()
    try:
        told = await purger.purge(since=f"{clock.now() - timedelta(days=1):%Y%m}")
    finally:
        await cell.close()
    assert f"purge/{stage.tenant}/{month_begin(month_of(expiry) + 6):%Y%m}" in {
        each.bucket for each in told
    }
