"""What goes to which topic, partition and key about a register, and under which event id."""

import pytest
from axbridge.binding.v1 import blacklist_pb2, consent_pb2, events_pb2
from axbridge.runtime.v1 import outbox_pb2

from services.binding.registers import Place, RegisterRecords, place_of
from services.runtime.topics import CATALOGUE, partition_of

PARTITIONS = {
    topic.name: 3 + place for place, topic in enumerate(CATALOGUE) if topic.owner == "binding"
}
RECORDS = RegisterRecords(PARTITIONS)


def consent_state(state: str, version: int) -> events_pb2.StateRecord:
    made = events_pb2.StateRecord()
    made.consent.fact.tenant, made.consent.fact.consent = "didi", "c1"
    made.consent.fact.aggregate_version = version
    made.consent.state = consent_pb2.ConsentState.Value(f"CONSENT_STATE_{state}")
    made.consent.secrets.key_id, made.consent.secrets.box = "purge/didi/202607", b"\x01box"
    if state != "ACTIVE":
        made.consent.withdrawal.locale = "zh"
    return made


def entry(state: events_pb2.StateRecord) -> list[outbox_pb2.OutboxRecord]:
    return list(outbox_pb2.OutboxEntry.FromString(RECORDS.entry(state)).records)


@pytest.mark.parametrize(
    ("state", "event"),
    [("ACTIVE", "ConsentGranted"), ("WITHDRAWAL_REQUESTED", "ConsentWithdrawalRequested"),
     ("DRAINING", "ConsentWithdrawn"), ("WITHDRAWN", "ConsentDrained"),
     ("ERASED", "ConsentErased")],
)  # fmt: skip
def test_a_consents_version_is_state_and_event(state: str, event: str) -> None:
    made = consent_state(state, 7)
    stored, told = entry(made)
    assert (stored.topic, told.topic) == ("binding.state.v1", "binding.consents.v1")
    assert stored.value == made.SerializeToString()
    for record in (stored, told):
        assert (record.key, record.version) == (b"consent/didi/c1", 7)
        assert record.partition == partition_of("consent/didi/c1", PARTITIONS[record.topic])
    assert (told.event_id, told.type) == ("c1-7", f"axbridge.binding.v1.{event}")
    parsed = getattr(events_pb2, event).FromString(told.value)
    assert parsed.fact == made.consent.fact
    assert parsed.secrets == made.consent.secrets
    if state != "ACTIVE":
        assert parsed.withdrawal == made.consent.withdrawal


def test_a_policys_version_is_state_and_event() -> None:
    made = events_pb2.StateRecord()
    made.consent_policy.tenant, made.consent_policy.policy.version = "didi", 2
    stored, told = entry(made)
    assert {stored.key, told.key} == {b"consent-policy/didi/current"}
    assert (told.event_id, told.topic) == ("policy-didi-2", "binding.consents.v1")
    parsed = events_pb2.ConsentPolicyChanged.FromString(told.value)
    assert (parsed.tenant, parsed.aggregate_version) == ("didi", 2)


@pytest.mark.parametrize("state", ["ACTIVE", "REMOVED", "EXPIRED"])
def test_an_entrys_version_is_state_denial_and_event(state: str) -> None:
    made = events_pb2.StateRecord()
    held = made.blacklist_entry
    held.fact.tenant, held.fact.entry, held.fact.aggregate_version = "didi", "e1", 2
    held.state = blacklist_pb2.BlacklistEntryState.Value(f"BLACKLIST_ENTRY_STATE_{state}")
    if state == "ACTIVE":
        held.denial.entry = "e1"
    stored, denial, told = entry(made)
    assert [r.topic for r in (stored, denial, told)] == [
        "binding.state.v1", "binding.denials.v1", "binding.blacklists.v1",
    ]  # fmt: skip
    assert {r.key for r in (stored, denial, told)} == {b"blacklist/didi/e1"}
    assert denial.tombstone == (state != "ACTIVE")
    assert denial.value == held.denial.SerializeToString()
    assert RECORDS.on("binding.denials.v1", made) == (denial.value or None)
    assert RECORDS.on("binding.state.v1", made) == stored.value
    kind = "BlacklistEntryAdded" if state == "ACTIVE" else "BlacklistEntryRemoved"
    assert (told.event_id, told.type) == ("e1-2", f"axbridge.binding.v1.{kind}")
    assert getattr(events_pb2, kind).FromString(told.value).fact == held.fact
    assert place_of(made) == Place("blacklist", "didi", "e1")


def test_tombstones_empty_every_compacted_topic() -> None:
    made = outbox_pb2.OutboxEntry.FromString(
        RECORDS.tombstones(Place("blacklist", "didi", "x"), 2, 5)
    ).records
    assert [(r.topic, r.tombstone) for r in made] == [
        ("binding.state.v1", True), ("binding.denials.v1", True),
    ]  # fmt: skip


def test_a_tombstone_empties_the_state() -> None:
    made = outbox_pb2.OutboxEntry.FromString(
        RECORDS.tombstones(Place("consent", "didi", "x"), 2, 5)
    ).records
    assert [(r.topic, r.key, r.tombstone) for r in made] == [
        ("binding.state.v1", b"consent/didi/x", True)
    ]


def test_a_key_names_its_register_and_no_binding() -> None:
    place = Place("consent", "didi", "c1")
    assert Place.parse(str(place)) == place
    for key in ("700100000010001/b1", "cell/c0", "route/didi/20260101", "consent/didi"):
        assert Place.parse(key) is None
    assert place_of(consent_state("ACTIVE", 1)) == place
    assert place_of(events_pb2.StateRecord()) is None
