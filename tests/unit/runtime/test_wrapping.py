"""Route keys travel wrapped, and are over by their name."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from services.runtime.aead import SealBroken, Sealed, seal
from services.runtime.keyring import KeyDestroyed, MemoryKeyRing
from services.runtime.wrapping import (
    new_route_key,
    route_key_day,
    route_key_id,
    route_key_over,
    route_key_tenant,
    unwrap_route_key,
    wrap_route_key,
)

KEY_ID = "route/acme/20260101"


def test_route_keys_are_wrapped_under_their_id() -> None:
    ring, key = MemoryKeyRing(), new_route_key()
    wrapped = wrap_route_key(ring, KEY_ID, key)
    assert unwrap_route_key(ring, KEY_ID, wrapped) == key
    assert new_route_key() != key
    for keys, key_id, box in (
        (ring, "route/acme/20260102", wrapped),
        (MemoryKeyRing(), KEY_ID, wrapped),
        (ring, KEY_ID, Sealed(KEY_ID, wrapped.box)),
        (ring, KEY_ID, Sealed("route-wrapping/1/2026010", wrapped.box)),
    ):
        with pytest.raises(SealBroken):
            unwrap_route_key(keys, key_id, box)


def test_what_was_wrapped_before_there_were_days_still_opens() -> None:
    ring, key = MemoryKeyRing(), new_route_key()
    root = ring.derive("route-wrapping", b"wrap/v1")
    old = seal(root, "route-wrapping", key, KEY_ID.encode())
    assert unwrap_route_key(ring, KEY_ID, old) == key


def test_each_day_and_label_has_a_wrapping_key_of_its_own() -> None:
    ring, key = MemoryKeyRing(), new_route_key()
    first = wrap_route_key(ring, KEY_ID, key)
    other_day = wrap_route_key(ring, "route/acme/20260102", key)
    rotated = wrap_route_key(ring, KEY_ID, key, "2")
    ring.destroy(first.key_id)
    with pytest.raises(KeyDestroyed):
        unwrap_route_key(ring, KEY_ID, first)
    with pytest.raises(KeyDestroyed):
        wrap_route_key(ring, "route/other/20260101", key)
    assert unwrap_route_key(ring, "route/acme/20260102", other_day) == key
    assert unwrap_route_key(ring, KEY_ID, rotated) == key


def test_a_route_key_is_named_after_the_utc_day_of_expiry() -> None:
    china = timezone(timedelta(hours=8))
    assert route_key_id("acme", datetime(2026, 1, 2, 7, tzinfo=china)) == KEY_ID
    assert (route_key_tenant(KEY_ID), route_key_day(KEY_ID)) == (
        "acme",
        datetime(2026, 1, 1).date(),
    )
    with pytest.raises(ValueError, match="zone"):
        route_key_id("acme", datetime(2026, 1, 1))


def test_a_route_key_is_over_a_day_after_its_day() -> None:
    end = datetime(2026, 1, 3, tzinfo=UTC)
    assert not route_key_over(KEY_ID, end - timedelta(milliseconds=1))
    assert route_key_over(KEY_ID, end)


@pytest.mark.parametrize("name", ["", "route/acme", "route/acme/20261332", "purge/acme/20260101"])
def test_what_is_no_route_key_is_never_over(name: str) -> None:
    assert not route_key_over(name, datetime(2100, 1, 1, tzinfo=UTC))
    assert route_key_day(name) is None
