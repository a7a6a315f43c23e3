"""Both suites from the binding to the call and to the unmask: what one service seals the others
open, and a tenant's suite is in every box and tag of its own."""

import hmac

import pytest
from axbridge.router.v1 import events_pb2 as router_events

from services.router.opener import CallerSealer, CallerTagger
from services.runtime.aead import SealBroken, Sealed, associated
from services.runtime.keyring import KeyDestroyed, MemoryKeyRing
from services.runtime.options import Options
from services.runtime.sealing import PurgeSealer, Tagger, open_evidence
from services.runtime.sm import Suite
from services.runtime.wrapping import new_route_key, unwrap_route_key, wrap_route_key
from tests.chain import A, B, Chain
from tests.unit.binding.memory import TENANT, binding
from tests.unit.test_bind_to_decision import X, pair

SUITES: list[Suite] = ["aes", "sm"]
OCTETS = {"aes": 1, "sm": 2}
HASHES = {"aes": "sha256", "sm": "sm3"}


@pytest.mark.parametrize("suite", SUITES)
def test_what_is_bound_is_connected_and_unmasked(suite: Suite) -> None:
    chain = Chain(suite)
    made = pair(chain, Options())
    copies = chain.bind(made, A, B)
    assert (chain.answer(A, X), chain.answer(B, X)) == (B.e164, A.e164)
    boxes = (copies.callee_a, copies.callee_b, copies.evidence, copies.secrets)
    assert {box.box[0] for box in boxes if box} == {OCTETS[suite]}
    assert copies.evidence is not None
    place = associated("binding-evidence", made.tenant, made.id)
    private = chain.private.private_bytes_raw()
    assert open_evidence(private, chain.ring, copies.evidence, place) == (
        f"{A.e164} {B.e164}".encode()
    )
    other = Sealed(copies.evidence.key_id, bytes([3 - OCTETS[suite]]) + copies.evidence.box[1:])
    with pytest.raises(SealBroken):  # relabelled as the other suite
        open_evidence(private, chain.ring, other, place)
    chain.ring.destroy(chain.vault.bucket(made))
    with pytest.raises(KeyDestroyed):
        open_evidence(private, chain.ring, copies.evidence, place)


@pytest.mark.parametrize("suite", SUITES)
def test_tags_are_of_the_suites_hash_in_every_service(suite: Suite) -> None:
    ring = MemoryKeyRing()
    ring.suites[TENANT] = suite
    key = ring.derive(f"tags/{TENANT}", b"tag/v1")
    text = f"axbridge/party/v1\x1f{TENANT}\x1f{A.e164}".encode()
    tag = hmac.digest(key, text, HASHES[suite])[:16]
    assert Tagger(ring).party(TENANT, A.e164) == CallerTagger(ring).party(TENANT, A.e164) == tag


@pytest.mark.parametrize("suite", SUITES)
def test_what_a_router_seals_of_a_caller_opens_elsewhere(suite: Suite) -> None:
    chain = Chain(suite)
    public = chain.private.public_key().public_bytes_raw()
    sealer = CallerSealer(chain.ring, public, chain.clock)
    key_id, box = sealer.seal(
        TENANT, chain.clock.epoch_ms(), A.e164, chain.tag(A), call=b"call", event=b"event"
    )
    assert box[0] == OCTETS[suite]
    plain = PurgeSealer(chain.ring).open(Sealed(key_id, box), b"event")
    secrets = router_events.CallSecrets.FromString(plain)
    copy = Sealed(secrets.caller_evidence.key_id, secrets.caller_evidence.box)
    private = chain.private.private_bytes_raw()
    assert open_evidence(private, chain.ring, copy, b"call") == A.e164.encode()


@pytest.mark.parametrize("suite", SUITES)
def test_route_keys_travel_in_the_suite_of_their_tenant(suite: Suite) -> None:
    ring, key = MemoryKeyRing(), new_route_key()
    ring.suites["acme"] = suite
    for key_id in ("route/acme/20260101", "route/acme@c1/20260101"):
        wrapped = wrap_route_key(ring, key_id, key)
        assert wrapped.box[0] == OCTETS[suite]
        assert unwrap_route_key(ring, key_id, wrapped) == key


def test_tenants_of_both_live_side_by_side() -> None:
    chain = Chain("sm")
    theirs = binding(chain.clock, "b9", tenant="other")
    copies = chain.vault.seal_new(theirs, A, B, chain.route_seal(theirs))
    assert copies.secrets is not None
    assert copies.secrets.box[0] == 1
