"""Consents and policies survive the way to Kafka and back, and show nothing personal on it."""

from dataclasses import replace

import pytest

from services.binding.consent import Parties, Policy
from services.binding.consentmessages import (
    ConsentMessages,
    policy_of,
    policy_register,
    policy_restored,
)
from services.binding.domain import Answered
from services.runtime.aead import SealBroken
from services.runtime.keyring import KeyDestroyed, MemoryKeyRing
from services.runtime.sealing import PurgeSealer
from tests.unit.binding.memory_consents import consent

NOW = 1_800_000_000_000
RING = MemoryKeyRing()
MESSAGES = ConsentMessages(PurgeSealer(RING))
MADE = consent(NOW, "c1")
GONE = MADE.asked(Answered("r2", b"w" * 16, NOW + 1, 0), "1", "en").confirmed(
    Answered("r3", b"c" * 16, NOW + 2, 0), 5000
)


@pytest.mark.parametrize("made", [MADE, GONE, GONE.drained(NOW + 3)])
def test_nothing_is_lost_and_nothing_personal_is_seen(made: object) -> None:
    register = MESSAGES.register(made)  # type: ignore[arg-type]
    assert MESSAGES.consent(register.state.consent) == made
    assert MESSAGES.restored(register.state) == register
    octets = register.state.SerializeToString()
    assert MADE.tag not in octets
    assert b"proof/4711" not in octets


def test_a_box_is_bound_to_its_version_and_dies_with_its_bucket() -> None:
    state = MESSAGES.register(MADE).state
    state.consent.fact.aggregate_version = 2
    with pytest.raises(SealBroken):
        MESSAGES.consent(state.consent)
    ring = MemoryKeyRing()
    messages = ConsentMessages(PurgeSealer(ring))
    state = messages.register(GONE).state
    assert state.consent.secrets.key_id == "purge/didi/202707"  # six months from the drain's end
    ring.destroy(state.consent.secrets.key_id)
    with pytest.raises(KeyDestroyed):
        messages.consent(state.consent)


def test_a_policy_is_what_it_was() -> None:
    made = Policy("didi", Parties.A, 1500, {"tenants/didi/pools/x": Parties.BOTH}, 4, NOW)
    register = policy_register(made)
    assert policy_of(register.state.consent_policy) == made
    assert policy_restored(register.state) == register
    assert str(register.place) == "consent-policy/didi/current"
    assert policy_of(policy_register(replace(made, pools={})).state.consent_policy).pools == {}
