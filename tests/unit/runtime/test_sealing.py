"""Tags keep tenants apart; copies open for whom they should, until the bucket is erased."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from services.runtime.clock import ManualClock
from services.runtime.keyring import EvidenceKeys, FileKeyRing, KeyDestroyed, MemoryKeyRing
from services.runtime.sealing import (
    EvidenceWriter,
    PurgeSealer,
    SealBroken,
    Sealed,
    Tagger,
    evidence_bucket,
    evidence_key,
    open_evidence,
    open_sealed,
    purge_key_id,
    record_key,
    route_associated,
    seal,
)

END = datetime(2026, 1, 15, tzinfo=UTC)
PLACE = b"binding-event\x1facme\x1fb1\x1f1"
TENANTS = st.from_regex(r"[a-z][a-z0-9-]{0,10}", fullmatch=True)
VALUES = st.text(max_size=16)
MOMENTS = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.timezones())


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    folder = tmp_path_factory.mktemp("evidence")
    public = EvidenceKeys.generate(folder)
    return EvidenceKeys.load_private(folder), public


@settings(deadline=None)
@given(TENANTS, TENANTS, VALUES, VALUES)
def test_tags_differ_across_tenants_fields_and_values(
    tenant: str, other: str, value: str, another: str
) -> None:
    assume(tenant != other and value != another)
    tagger = Tagger(MemoryKeyRing())
    tags = {
        kind(name, text)
        for kind in (tagger.party, tagger.order)
        for name in (tenant, other)
        for text in (value, another)
    }
    assert len(tags) == 8
    assert {len(tag) for tag in tags} == {16}
    assert tagger.party(tenant, value) == tagger.party(tenant, value)


def test_tags_need_the_tenants_key() -> None:
    ring = MemoryKeyRing()
    assert Tagger(ring).party("acme", "x") == Tagger(ring).party("acme", "x")
    assert Tagger(ring).party("acme", "x") != Tagger(MemoryKeyRing()).party("acme", "x")
    ring.destroy("tags/acme")
    with pytest.raises(KeyDestroyed):
        Tagger(ring).party("acme", "x")


@pytest.mark.parametrize(
    ("end", "months", "bucket"),
    [
        (datetime(2026, 1, 15, tzinfo=UTC), 6, "202607"),
        (datetime(2026, 8, 31, tzinfo=UTC), 6, "202702"),
        (datetime(2026, 6, 30, 23, 59, tzinfo=UTC), 6, "202612"),
        (datetime(2026, 7, 1, 7, tzinfo=timezone(timedelta(hours=8))), 6, "202612"),
        (datetime(2026, 12, 1, tzinfo=UTC), 24, "202812"),
    ],
)
def test_the_bucket_is_the_month_in_which_the_retention_ends(
    end: datetime, months: int, bucket: str
) -> None:
    assert purge_key_id("acme", end, months) == f"purge/acme/{bucket}"


@settings(deadline=None)
@given(MOMENTS)
def test_a_bucket_ends_after_the_retention(end: datetime) -> None:
    bucket = purge_key_id("acme", end)[-6:]
    moment, months = end.astimezone(UTC), int(bucket[:4]) * 12 + int(bucket[4:])
    assert months - (moment.year * 12 + moment.month) == 6  # six whole months lie before its end


def test_moments_without_a_zone_are_refused() -> None:
    with pytest.raises(ValueError, match="zone"):
        purge_key_id("acme", datetime(2026, 1, 1))


def test_a_purge_box_opens_in_its_place_until_its_key_is_destroyed(tmp_path: Path) -> None:
    ring = FileKeyRing(tmp_path)
    sealer = PurgeSealer(ring)
    sealed, later = (sealer.seal("acme", end, b"x", PLACE) for end in (END, END.replace(month=2)))
    assert sealed.key_id == "purge/acme/202607"
    assert PurgeSealer(FileKeyRing(tmp_path)).open(sealed, PLACE) == b"x"
    refused(lambda: sealer.open(sealed, PLACE + b"2"))
    refused(lambda: sealer.open(Sealed(later.key_id, sealed.box), PLACE))
    ring.destroy(sealed.key_id)
    for call in (lambda: sealer.open(sealed, PLACE), lambda: sealer.seal("acme", END, b"", PLACE)):
        with pytest.raises(KeyDestroyed):
            call()
    assert sealer.open(later, PLACE) == b"x"


BAD_IDS = ["", "tags/acme", "purge/acme", "purge/A/202607", "purge/a/b/202607", "purge/a/202607\n"]


@pytest.mark.parametrize(
    "key_id", [*BAD_IDS, "purge/../202607", "evidence/00000000/purge/a/202607"]
)
def test_boxes_with_foreign_key_ids_do_not_open(key_id: str, pair: tuple[bytes, bytes]) -> None:
    ring = MemoryKeyRing()
    box = b"\x01" + bytes(80)
    refused(lambda: PurgeSealer(ring).open(Sealed(key_id, box), PLACE))
    refused(lambda: open_evidence(pair[0], ring, Sealed(key_id, box), PLACE))


def test_an_evidence_copy_takes_both_keys(pair: tuple[bytes, bytes], tmp_path: Path) -> None:
    private, public = pair
    ring = MemoryKeyRing()
    sealed = EvidenceWriter(public, ring).seal("acme", END, b"x", PLACE)
    assert sealed.key_id.endswith("/purge/acme/202607")
    assert len(sealed.box) == 1 + 32 + 12 + 1 + 16
    assert open_evidence(private, ring, sealed, PLACE) == b"x"
    refused(lambda: open_evidence(private, MemoryKeyRing(), sealed, PLACE))  # without the bucket
    EvidenceKeys.generate(tmp_path)
    other = EvidenceKeys.load_private(tmp_path)
    refused(lambda: open_evidence(other, ring, sealed, PLACE))
    bucket = sealed.key_id.split("/", 2)[2]
    refused(lambda: PurgeSealer(ring).open(Sealed(bucket, sealed.box), PLACE))
    ring.destroy(bucket)
    with pytest.raises(KeyDestroyed):
        open_evidence(private, ring, sealed, PLACE)


@pytest.mark.parametrize("octet", [*range(33 + 12 + 1 + 16)])
def test_any_changed_octet_breaks_an_evidence_copy(pair: tuple[bytes, bytes], octet: int) -> None:
    private, public = pair
    ring = MemoryKeyRing()
    sealed = EvidenceWriter(public, ring).seal("acme", END, b"x", PLACE)
    for bit in range(8):
        box = bytearray(sealed.box)
        box[octet] ^= 1 << bit
        changed = Sealed(sealed.key_id, bytes(box))
        refused(lambda changed=changed: open_evidence(private, ring, changed, PLACE))  # type: ignore[misc]


def test_a_writer_key_of_low_order_does_not_open(pair: tuple[bytes, bytes]) -> None:
    private, public = pair
    ring = MemoryKeyRing()
    sealed = EvidenceWriter(public, ring).seal("acme", END, b"x", PLACE)
    for writer in (bytes(32), b"\x01" + bytes(31)):
        forged = Sealed(sealed.key_id, b"\x01" + writer + sealed.box[33:])
        refused(lambda forged=forged: open_evidence(private, ring, forged, PLACE))  # type: ignore[misc]
    refused(lambda: open_evidence(private, ring, Sealed(sealed.key_id, sealed.box[:20]), PLACE))


def test_the_writer_key_changes_with_the_day_and_the_process(pair: tuple[bytes, bytes]) -> None:
    private, public = pair
    ring, clock = MemoryKeyRing(), ManualClock(END)
    writers = [EvidenceWriter(public, ring, clock=clock) for _ in range(2)]
    boxes = [writers[0].seal("acme", END, b"x", PLACE), writers[0].seal("beta", END, b"x", PLACE)]
    assert boxes[0].box[1:33] == boxes[1].box[1:33]
    boxes.append(writers[1].seal("acme", END, b"x", PLACE))
    clock.advance(timedelta(days=1))
    boxes.append(writers[0].seal("acme", END, b"x", PLACE))
    assert len({sealed.box[1:33] for sealed in boxes}) == 3
    assert [open_evidence(private, ring, sealed, PLACE) for sealed in boxes] == [b"x"] * 4


def test_a_destroyed_bucket_stops_the_writer(pair: tuple[bytes, bytes]) -> None:
    ring = MemoryKeyRing()
    writer = EvidenceWriter(pair[1], ring)
    writer.seal("acme", END, b"x", PLACE)
    ring.destroy("purge/acme/202607")
    with pytest.raises(KeyDestroyed):
        writer.seal("acme", END, b"x", PLACE)


def test_a_copy_held_by_its_own_key_opens_after_its_bucket_and_no_other_does(
    pair: tuple[bytes, bytes],
) -> None:
    private, public = pair
    ring = MemoryKeyRing()
    writer, other = EvidenceWriter(public, ring), b"binding-evidence\x1facme\x1fb2"
    copies = [writer.seal("acme", END, b"x", place) for place in (PLACE, other)]
    held = record_key(ring, evidence_bucket(copies[0]), PLACE)
    ring.destroy("purge/acme/202607")
    assert open_evidence(private, ring, copies[0], PLACE, held) == b"x"
    refused(lambda: open_evidence(private, ring, copies[1], other, held))
    refused(lambda: open_evidence(private, ring, copies[1], PLACE, held))


def test_copies_without_a_key_of_their_own_open_and_cannot_be_held(
    pair: tuple[bytes, bytes],
) -> None:
    """What routers write, and what was written before."""
    private, public = pair
    ring = MemoryKeyRing()
    made = EvidenceWriter(public, ring).seal("acme", END, b"x", PLACE)
    key_id = made.key_id.replace("evidence2/", "evidence/")
    shared = X25519PrivateKey.from_private_bytes(private).exchange(
        X25519PublicKey.from_public_bytes(made.box[1:33])
    )
    root = ring.derive("purge/acme/202607", b"evidence/v1")
    box = seal(evidence_key(shared, root, made.box[1:33], public), key_id, b"x", PLACE).box
    old = Sealed(key_id, box[:1] + made.box[1:33] + box[1:])
    assert open_evidence(private, ring, old, PLACE) == b"x"
    refused(lambda: evidence_bucket(old))
    refused(lambda: open_evidence(private, ring, Sealed(key_id, made.box), PLACE))


ROUTE: dict[str, Any] = {
    "tenant": "acme",
    "binding": "b1",
    "number": "700123456781234",
    "version": 1,
    "mode": 1,
    "direction": 1,
    "max_call_minutes": 0,
    "expire_ms": 1_767_225_600_000,
    "side": "b",
    "caller_tag": bytes(16),
}
CHANGED: dict[str, Any] = {
    "tenant": "beta",
    "binding": "b2",
    "number": "700123456781235",
    "version": 2,
    "mode": 2,
    "direction": 2,
    "max_call_minutes": 10,
    "expire_ms": 1_767_225_600_001,
    "side": "a",
    "caller_tag": bytes(15) + b"\x01",
}


@pytest.mark.parametrize("field", sorted(ROUTE))
def test_changing_any_policy_field_of_a_route_breaks_the_opening(field: str) -> None:
    key = bytes(32)
    sealed = seal(key, "route/acme/20260101", b"x", route_associated(**ROUTE))
    assert open_sealed(key, sealed, route_associated(**ROUTE)) == b"x"
    changed = route_associated(**{**ROUTE, field: CHANGED[field]})
    refused(lambda: open_sealed(key, sealed, changed))


def refused(call: Callable[[], object]) -> None:
    with pytest.raises(SealBroken):
        call()
