"""Entries survive the way to Kafka and back; tags are in clear only in what routers need."""

import pytest

from services.binding.blacklist import Entry, Target
from services.binding.blacklistmessages import BlacklistMessages
from services.runtime.aead import SealBroken
from services.runtime.keyring import KeyDestroyed, MemoryKeyRing
from services.runtime.sealing import PurgeSealer
from tests.unit.binding.memory import DAY_MS
from tests.unit.binding.memory_blacklist import entry

NOW = 1_800_000_000_000
RING = MemoryKeyRing()
MESSAGES = BlacklistMessages(PurgeSealer(RING))
A, B = b"a" * 16, b"b" * 16
NUMBER = entry(NOW, "e1", Target(A, b"", ""))
PAIR = entry(NOW, "e2", Target(A, B, "tenants/didi/pools/x"))


@pytest.mark.parametrize("made", [NUMBER, PAIR, PAIR.ended(NOW + 5), NUMBER.ended(NOW + DAY_MS)])
def test_nothing_is_lost(made: Entry) -> None:
    register = MESSAGES.register(made)
    assert MESSAGES.entry(register.state.blacklist_entry) == made
    assert MESSAGES.restored(register.state) == register
    assert (register.tag, register.field, register.mark) == (A, made.target.field, made.mark)
    held = register.state.blacklist_entry
    assert held.HasField("denial") == made.active
    assert A not in held.fact.SerializeToString() + held.secrets.SerializeToString()
    assert A in held.SerializeToString() or not made.active


def test_routers_get_all_that_they_need() -> None:
    denial = MESSAGES.register(PAIR).state.blacklist_entry.denial
    assert (denial.tenant, denial.entry, denial.version) == ("didi", "e2", 1)
    assert (denial.pool, denial.caller_tag, denial.callee_tag) == (PAIR.target.pool, A, B)
    assert denial.expire_time.ToMilliseconds() == PAIR.expire_ms


def test_a_box_is_bound_to_its_version_and_dies_with_its_bucket() -> None:
    state = MESSAGES.register(NUMBER).state
    state.blacklist_entry.fact.aggregate_version = 2
    with pytest.raises(SealBroken):
        MESSAGES.restored(state)
    ring = MemoryKeyRing()
    messages = BlacklistMessages(PurgeSealer(ring))
    state = messages.register(NUMBER).state
    assert state.blacklist_entry.secrets.key_id == "purge/didi/202707"  # six months from its end
    ring.destroy(state.blacklist_entry.secrets.key_id)
    with pytest.raises(KeyDestroyed):
        messages.restored(state)
