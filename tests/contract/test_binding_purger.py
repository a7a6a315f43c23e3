"""Purging on a real Valkey: what was kept of every topic and of the store before it opens nothing
afterwards, with any key that is left; every step may be repeated."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from axbridge.binding.v1 import events_pb2
from axbridge.type.v1 import sealed_pb2
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher as RawCipher
from cryptography.hazmat.primitives.ciphers import algorithms, modes
from google.protobuf.message import DecodeError, Message

from services.binding.messages import unsealed
from services.binding.purger import Purger
from services.binding.vault import Vault
from services.runtime.aead import NONCE, Cipher, SealBroken
from services.runtime.clock import ManualClock
from services.runtime.keyring import KeyDestroyed, MemoryKeyRing
from services.runtime.sealing import (
    EvidenceWriter,
    PurgeSealer,
    Sealed,
    associated,
    month_begin,
    month_of,
    open_evidence,
)
from services.runtime.wrapping import wrapping_name
from tests.contract.test_binding_rebuild import CLOCK, create, read, release
from tests.unit.binding.cells import RECORDS, ReadyCell, ready_cell

ORDER = b"order"
LATER = datetime.now(UTC) + timedelta(days=270)


class Purging:
    """A purger of a cell at a moment of its own."""

    def __init__(self, ready: ReadyCell, now: datetime = LATER, *tenants: str) -> None:
        self.ready = ready

        async def known() -> list[str]:
            return list(tenants or ("didi",))

        self.purger = Purger(
            ready.cell, ready.bindings, RECORDS, ready.keyring, ManualClock(now), known,
            store_agrees=False,
        )  # fmt: skip

    def events(self) -> list[events_pb2.BucketPurged]:
        found = self.ready.on("binding.retention.v1")
        return [events_pb2.BucketPurged.FromString(r.value or b"") for r in found]


def month(text: datetime, ahead: int = 0) -> str:
    return f"{month_begin(month_of(text) + ahead):%Y%m}"


def boxes(message: Message) -> Iterator[sealed_pb2.Sealed]:
    """Every box in a message."""
    for field, value in message.ListFields():
        many = value if field.is_repeated else [value]
        if field.message_type is sealed_pb2.Sealed.DESCRIPTOR:
            yield from many
        elif field.message_type is not None:
            for each in many:
                yield from boxes(each)


def messages(octets: bytes) -> Iterator[Message]:
    """What the octets may be."""
    for kind in (
        events_pb2.StateRecord, events_pb2.BindingRecord, events_pb2.Route, events_pb2.RouteKey,
        events_pb2.BindingCreated, events_pb2.BindingUpdated, events_pb2.BindingReleased,
    ):  # fmt: skip
        try:
            yield kind.FromString(octets)
        except DecodeError:
            continue


def decrypted(key: bytes, box: bytes) -> bytes:
    """The plaintext of a box under a key, whatever it is bound to: GCM encrypts as CTR does, from
    the second block on, so the tag is left aside."""
    counter = box[1 : 1 + NONCE] + (2).to_bytes(4)
    stream = RawCipher(algorithms.AES(key), modes.CTR(counter)).decryptor()
    return stream.update(box[1 + NONCE : -16])


class Copies:
    """Everything that was written about a cell before the purge, and everything tried on it."""

    def __init__(self, ready: ReadyCell, stored: list[bytes]) -> None:
        octets = [r.value for r in ready.records if r.value is not None] + stored
        found = [box for each in octets for made in messages(each) for box in boxes(made)]
        self.boxes = {(box.key_id, box.box) for box in found if box.box}
        self.octets = octets

    def keys(self, ring: MemoryKeyRing) -> list[bytes]:
        """All keys that can be had from the ring, those of copied route keys among them."""
        labels = (b"seal/v1", b"evidence/v1", b"wrap/v1", b"tag/v1", b"nonce/v1", b"body/v1")
        names = [name for name, root in ring._keys.items() if root is not None]
        derived = [ring.derive(name, label) for name in names for label in labels]
        unwrapped = [
            opened
            for key in derived
            for key_id, box in self.boxes
            if key_id.startswith("route-wrapping")
            for octets in self.octets
            for message in messages(octets)
            if isinstance(message, events_pb2.RouteKey) and message.wrapped.box == box
            if (opened := unwrap(key, key_id, box, message.key_id)) is not None
        ]
        return derived + unwrapped

    def opened(self, ring: MemoryKeyRing) -> dict[str, bytes]:
        """Boxes that some key opens to a number or an order, by key id."""
        return {
            key_id: plain
            for key in set(self.keys(ring))
            for key_id, box in self.boxes
            if any(secret in (plain := decrypted(key, box)) for secret in (b"+86", ORDER))
        }


def unwrap(key: bytes, wrapping: str, box: bytes, key_id: str) -> bytes | None:
    try:
        return Cipher(key, wrapping).open(box, key_id.encode())
    except SealBroken:
        return None


async def stored(ready: ReadyCell) -> list[bytes]:
    """Every value of the store, as a dump of it has them."""
    redis: Any = ready.cell.redis
    found: list[bytes] = []
    async for key in redis.scan_iter(match=f"*{ready.cell.name}*", count=1000):
        if await redis.type(key) == b"hash":
            found += (await redis.hgetall(key)).values()
    return found


async def test_no_copy_from_before_a_purge_opens_afterwards(valkey_url: str) -> None:
    async with ready_cell(valkey_url) as ready:
        made = await create(ready, 1)
        ended = await create(ready, 2)
        await release(ready, ended)
        ring = ready.keyring
        assert isinstance(ring, MemoryKeyRing)
        copies = Copies(ready, await stored(ready))
        bucket = ready.bindings.bucket(made)
        day = ready.bindings.route_key_id(made)
        opened = copies.opened(ring)
        assert {bucket, day} <= opened.keys()  # or this test proves nothing
        secrets = events_pb2.BindingSecrets.FromString(opened[bucket])
        evidence, place = (
            unsealed(secrets.evidence),
            [associated("binding-evidence", "didi", each.id) for each in (made, ended)],
        )
        assert evidence is not None
        assert any(numbers(ready, evidence, each) for each in place)
        await Purging(ready).purger.purge(since=month(LATER, -4))
        assert day in copies.opened(ring)  # the keeper ends it, a day after its day:
        ring.destroy(wrapping_name(day, "1"))
        assert copies.opened(ring) == {}
        for each in place:
            with pytest.raises(KeyDestroyed):
                numbers(ready, evidence, each)


def numbers(ready: ReadyCell, evidence: Sealed, place: bytes) -> bytes | None:
    """What the holder of the evidence key reads; None for another binding's."""
    try:
        return open_evidence(ready.private, ready.keyring, evidence, place)
    except SealBroken:
        return None


async def test_tags_stand_in_clear_only_where_they_can_be_erased(valkey_url: str) -> None:
    """The tag key outlives a bucket: whoever holds the ring can still ask whether a copy of an
    erasable store knows a number. So the log that cannot forget must not have any tag in clear."""
    async with ready_cell(valkey_url) as ready:
        made = await create(ready, 1)
        assert any(made.tag_a in (r.value or b"") for r in ready.on("binding.routes.v1"))
        events = ready.on("binding.bindings.v1") + ready.on("binding.retention.v1")
        order = ready.tags.order("didi", made.terms.order_id)
        for tag in (made.tag_a, made.tag_b, order):
            assert not any(tag in (r.value or b"") + r.key for r in events)
            assert not any(tag.hex().encode() in (r.value or b"") + r.key for r in events)
        ready.keyring.destroy("tags/didi")  # the end of a tenant
        with pytest.raises(KeyDestroyed):
            ready.tags.party("didi", "+8613800000000")


async def test_each_bucket_ends_once_and_is_told_once(valkey_url: str) -> None:
    async with ready_cell(valkey_url) as ready:
        purging = Purging(ready)
        first = await purging.purger.purge()
        assert [each.bucket for each in first] == [f"purge/didi/{month(LATER, -1)}"]
        assert await purging.purger.purge() == []
        later = Purging(ready, month_begin(month_of(LATER) + 2), "didi", "other")
        told = await later.purger.purge()
        assert sorted(each.bucket for each in told) == [
            f"purge/didi/{month(LATER)}",
            f"purge/didi/{month(LATER, 1)}",
            f"purge/other/{month(LATER, 1)}",
        ]
        assert purging.events() == [*first, *told]
        ids = [r.envelope.event_id for r in ready.on("binding.retention.v1")]
        assert len(set(ids)) == len(ids)


async def test_a_purge_that_broke_off_goes_on(valkey_url: str) -> None:
    async with ready_cell(valkey_url) as ready:
        purging = Purging(ready)
        ready.keyring.destroy(f"purge/didi/{month(LATER, -1)}")  # and died there
        assert len(await purging.purger.purge()) == 1
        before = await ready.snapshot()
        records = list(ready.records)
        await ready.wipe()
        await ready.begin(2, records)  # the ledger is Kafka's too
        assert await ready.snapshot() == before
        assert await purging.purger.purge() == []


async def test_nothing_ends_before_the_stores_clock_says_so(valkey_url: str) -> None:
    async with ready_cell(valkey_url) as ready:
        purging = Purging(ready)
        purging.purger._store_agrees = True
        told = await purging.purger.purge()
        assert [each.bucket for each in told] == [f"purge/didi/{month(datetime.now(UTC), -1)}"]


async def test_what_could_not_be_read_is_dropped_with_its_bucket(valkey_url: str) -> None:
    async with ready_cell(valkey_url) as ready:
        live, ended = await create(ready, 1), await create(ready, 2)
        await release(ready, ended)
        other = await create(ready, 3, tenant="other")
        for made in (live, ended, other):  # months ago
            past = CLOCK.epoch_ms() - 1000
            for kind in ("expiry", "forget"):
                await ready.cell.redis.zadd(ready.cell.key(kind), {made.id: past}, xx=True)
        purging = Purging(ready)
        [purged] = await purging.purger.purge(since=month(LATER, -1))
        assert purged.dropped_bindings == 2
        assert (await ready.bindings.get(live.id), await ready.bindings.get(ended.id)) == (
            None,
            None,
        )
        assert (await read(ready, other)).binding.tenant == "other"
        tombstones = [r for r in ready.on("binding.state.v1") if r.value is None]
        assert {r.key.decode().split("/")[1] for r in tombstones} == {live.id, ended.id}
        for tag in (live.tag_a, ended.tag_b):
            assert not await ready.cell.redis.exists(
                ready.cell.key("by", "party", "didi", tag.hex())
            )


async def test_what_can_never_be_read_keeps_no_bucket_from_its_end(valkey_url: str) -> None:
    async with ready_cell(valkey_url) as ready:
        made = await create(ready, 1)
        record = events_pb2.StateRecord.FromString(
            ready.on("binding.state.v1")[0].value or b""
        ).binding
        record.route.options = "nonsense"
        key = ready.bindings.places.binding(made.id)
        await ready.cell.redis.hset(key, "r", record.SerializeToString())
        [purged] = await Purging(ready).purger.purge()
        assert purged.dropped_bindings == 0
        assert await ready.cell.redis.exists(key)


async def test_an_ended_bucket_takes_no_new_secrets_and_holds_nobody_up(valkey_url: str) -> None:
    async with ready_cell(valkey_url) as ready:
        made = await create(ready, 1)
        ready.keyring.destroy(ready.bindings.bucket(made))
        await release(ready, made)
        last = events_pb2.BindingReleased.FromString(
            ready.on("binding.bindings.v1")[-1].value or b""
        )
        assert not last.HasField("secrets")


async def test_an_extension_over_a_bucket_seals_everything_anew(valkey_url: str) -> None:
    async with ready_cell(valkey_url) as ready:
        private = X25519PrivateKey.generate().public_key().public_bytes_raw()
        vault = Vault(PurgeSealer(ready.keyring), EvidenceWriter(private, ready.keyring))
        made = await create(ready, 1)
        old = await read(ready, made)
        ahead = int((datetime.now(UTC) + timedelta(days=70)).timestamp() * 1000)
        terms = type(made.terms)(
            pool=made.terms.pool, order_id=made.terms.order_id, industry_id=made.terms.industry_id,
            expire_ms=ahead, customer_data=made.terms.customer_data,
        )  # fmt: skip
        new = type(made)(
            made.tenant, made.id, made.number, terms, made.tag_a, made.tag_b, made.lease_epoch,
            made.cooling_ms, made.exclusive, made.create_ms, CLOCK.epoch_ms(), made.requests, 2,
        )  # fmt: skip
        await ready.bindings.published(await ready.bindings.change(old, new), 5)
        assert vault.bucket(new) != vault.bucket(made)
        ready.keyring.destroy(vault.bucket(made))
        stands = await read(ready, new)
        assert stands.binding.terms.order_id == made.terms.order_id  # its secrets open
        route = ready.bindings.route(stands)
        assert route.callee_a.key_id == route.callee_b.key_id == ready.bindings.route_key_id(new)
        opened = vault.open(events_pb2.StateRecord.FromString(
            ready.on("binding.state.v1")[-1].value or b"").binding)  # fmt: skip
        assert opened.evidence is not None
        assert opened.evidence.key_id.endswith(vault.bucket(new))
