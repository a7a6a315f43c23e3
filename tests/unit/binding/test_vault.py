"""Copies are bound to their version, numbers leave only sealed, erased buckets stay shut."""

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from services.binding.domain import Answered, Binding, Reason
from services.binding.messages import Copies, record_of, route_of
from services.binding.vault import KeyedTags, RouteSeal, Vault
from services.runtime.aead import SealBroken
from services.runtime.clock import ManualClock
from services.runtime.keyring import MemoryKeyRing
from services.runtime.phone import PhoneNumber
from services.runtime.sealing import EvidenceWriter, PurgeSealer, associated, open_evidence
from tests.unit.binding.memory import DAY_MS, binding

CLOCK = ManualClock()
NOW = CLOCK.epoch_ms()
A, B = PhoneNumber("+8613512345678"), PhoneNumber("+8613612345678")
RING = MemoryKeyRing()
PRIVATE = X25519PrivateKey.generate()
WRITER = EvidenceWriter(PRIVATE.public_key().public_bytes_raw(), RING)
VAULT = Vault(PurgeSealer(RING), WRITER)
ROUTE, NEXT = RouteSeal("route/didi/1", b"1" * 32), RouteSeal("route/didi/2", b"2" * 32)


def updated(made: Binding, days: int) -> Binding:
    return made.updated(made.version, NOW + days * DAY_MS, Answered("r", b"h" * 16, NOW, 0))


def evidence(copies: Copies) -> bytes:
    assert copies.evidence is not None
    bound = associated("binding-evidence", "didi", "b1")
    return open_evidence(PRIVATE.private_bytes_raw(), RING, copies.evidence, bound)


def test_copies_are_sealed_again_for_each_version() -> None:
    made = binding(CLOCK, "b1")
    copies = VAULT.seal_new(made, A, B, ROUTE)
    assert evidence(copies) == b"+8613512345678 +8613612345678"
    longer = updated(made, 2)
    again = VAULT.seal_again(made, copies, longer, ROUTE, NEXT)
    assert again.callee_a is not None
    assert again.callee_a.key_id == NEXT.key_id
    assert again.evidence == copies.evidence
    with pytest.raises(SealBroken):  # those of version 1 say nothing about version 2
        VAULT.seal_again(longer, copies, updated(longer, 3), ROUTE, NEXT)


def test_an_end_in_another_purge_bucket_seals_the_evidence_again() -> None:
    made = binding(CLOCK, "b1")
    copies = VAULT.seal_new(made, A, B, ROUTE)
    again = VAULT.seal_again(made, copies, updated(made, 200), ROUTE, NEXT)
    assert copies.evidence is not None
    assert again.evidence is not None
    assert again.evidence.key_id != copies.evidence.key_id
    assert evidence(again) == evidence(copies)


def test_an_ended_binding_has_no_callee_and_keeps_its_secrets() -> None:
    made = binding(CLOCK, "b1")
    copies = VAULT.seal_new(made, A, B, ROUTE)
    ended = made.released(NOW, Reason.REQUESTED)
    left = VAULT.seal_ended(ended, copies)
    assert (left.callee_a, left.callee_b) == (None, None)
    opened = VAULT.open(record_of(ended, route_of(ended, left), left))
    assert opened == ("order-1", b"data", copies.evidence)
    nothing = Copies(None, None, None, None)
    assert VAULT.seal_ended(ended, nothing) == nothing


def test_an_erased_bucket_opens_empty() -> None:
    ring = MemoryKeyRing()
    vault = Vault(PurgeSealer(ring), WRITER)
    made = binding(CLOCK, "b1")
    copies = vault.seal_new(made, A, B, ROUTE)
    record = record_of(made, route_of(made, copies), copies)
    assert vault.open(record).order_id == "order-1"
    assert copies.secrets is not None
    ring.destroy(copies.secrets.key_id)
    assert vault.open(record) == ("", b"", None)


def test_request_hashes_belong_to_a_tenant() -> None:
    tags = KeyedTags(RING)
    assert tags.body("didi", "text") == tags.body("didi", "text")
    assert len({tags.body("didi", "text"), tags.body("other", "text"), tags.body("didi", "x")}) == 3
    assert replace(binding(CLOCK, "b1"), tag_a=tags.party("didi", A.e164)).tag_a != A.e164.encode()
