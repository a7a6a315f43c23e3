"""What the index knows of each event, and what it must never know."""

from typing import Any

import pytest
from axbridge.allocator.v1 import events_pb2 as allocator
from axbridge.allocator.v1.number_pb2 import Block, Number, Pool
from axbridge.audit.v1 import events_pb2 as audit
from axbridge.binding.v1 import events_pb2 as binding
from axbridge.binding.v1.retention_pb2 import LegalHold
from axbridge.router.v1 import events_pb2 as router

from services.audit.domain import IndexRow
from services.audit.entry import event_of, parked_event, types_of
from services.audit.extract import _READERS, TERMS, Extractor, moment_of
from services.audit.tracing import Moment
from services.runtime.keyring import MemoryKeyRing
from services.runtime.sealing import PurgeSealer, Tagger, associated
from services.runtime.topics import EVENT_TOPICS
from tests.audit_events import END, TIME_MS, created, leased, number, record, routed

TYPES = {name: kind for topic in EVENT_TOPICS for name, kind in types_of(topic).items()}


class Fixture:
    def __init__(self) -> None:
        self.ring = MemoryKeyRing()
        self.sealer, self.tagger = PurgeSealer(self.ring), Tagger(self.ring)
        self.unreadable = 0
        self.extract = Extractor(self.sealer, self.tagger, self._count)

    def _count(self) -> None:
        self.unreadable += 1

    def row(self, message: Any) -> IndexRow:
        return self.extract(5, event_of(record(message, "e5"), TYPES).entry)


@pytest.fixture
def made() -> Fixture:
    return Fixture()


POOL = "tenants/taxi/pools/city"
FACT = router.CallFact(carrier="c", call_id="1")
BEHIND = router.CallBinding(tenant="taxi", binding="b1")
ONE = number(1)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (allocator.PoolCreated(pool=Pool(name=POOL)), {"tenant": "taxi"}),
        (allocator.BlockRegistered(block=Block(), tenant="taxi"), {"tenant": "taxi"}),
        (leased(1, 2), {"tenant": "taxi", "numbers": (ONE, number(2))}),
        (
            allocator.NumberChanged(number=Number(name=f"numbers/{ONE}", pool=POOL)),
            {"tenant": "taxi", "numbers": (ONE,)},
        ),
        (
            created("b1", serial=1, until_ms=9),
            {"tenant": "taxi", "binding": "b1", "numbers": (ONE,), "until_ms": 9},
        ),
        (
            binding.BindingUpdated(
                fact=binding.BindingFact(tenant="taxi", number=ONE, second_number=number(2))
            ),
            {"tenant": "taxi", "numbers": (ONE, number(2)), "binding": "", "until_ms": 0},
        ),
        (
            created("b1", serial=1, until_ms=8, kind=binding.BindingReleased),
            {"tenant": "taxi", "binding": "b1", "numbers": (ONE,), "until_ms": 8, "ended": True},
        ),
        (
            routed("1", serial=1),
            {"tenant": "taxi", "binding": "b1", "call": "c/1", "numbers": (ONE,)},
        ),
        (
            binding.BucketPurged(tenant="taxi", bucket="purge/taxi/202607"),
            {"tenant": "taxi", "purged": "purge/taxi/202607"},
        ),
        (binding.SubjectRestricted(tenant="taxi"), {"tenant": "taxi"}),
        (binding.SubjectExported(tenant="taxi"), {"tenant": "taxi"}),
        (
            binding.LegalHoldChanged(hold=LegalHold(name="tenants/taxi/legalHolds/c1")),
            {"tenant": "taxi"},
        ),
        (binding.LegalHoldEnded(tenant="taxi"), {"tenant": "taxi"}),
        (
            binding.ConsentGranted(fact=binding.ConsentFact(tenant="taxi")),
            {"tenant": "taxi"},
        ),
        (binding.ConsentPolicyChanged(tenant="taxi"), {"tenant": "taxi"}),
        (
            binding.BlacklistEntryAdded(fact=binding.BlacklistFact(tenant="taxi")),
            {"tenant": "taxi"},
        ),
        (
            binding.BlacklistEntryRemoved(fact=binding.BlacklistFact(tenant="taxi")),
            {"tenant": "taxi"},
        ),
        (
            audit.CallDiffers(
                fact=audit.ReconciliationFact(carrier="c"),
                call=audit.ReconciledCall(call_id="1", number=ONE, tenant="taxi", binding="b1"),
            ),
            {"tenant": "taxi", "binding": "b1", "call": "c/1", "numbers": (ONE,)},
        ),
        (audit.DayReconciled(), {}),
        (router.CallRefused(fact=FACT), {"call": "c/1"}),
        (router.CallProgressed(fact=FACT), {"call": "c/1"}),
        (
            router.CallRecorded(carrier="c", call_id="1", number=ONE, binding=BEHIND),
            {"tenant": "taxi", "binding": "b1", "call": "c/1", "numbers": (ONE,)},
        ),
    ],
)
def test_each_type_gives_what_it_says(
    made: Fixture, message: Any, expected: dict[str, Any]
) -> None:
    full_name = message.DESCRIPTOR.full_name
    assert made.row(message) == IndexRow(5, "e5", full_name, TIME_MS, **expected)


def test_every_event_of_the_catalogue_is_read() -> None:
    assert set(_READERS) == set(TYPES)


def test_an_order_is_found_by_its_tag_only(made: Fixture) -> None:
    message = created("b1", made.sealer, order="order-77", kind=binding.BindingReleased)
    row = made.row(message)
    assert row.order_tag == made.tagger.order("taxi", "order-77")
    assert row.bucket == message.secrets.key_id
    assert "order-77" not in repr(row)
    assert made.row(created("b1", made.sealer)).order_tag is None


def sealed(made: Fixture, message: Any, secrets: Any, *place: str | int) -> Any:
    box = made.sealer.seal("taxi", END, secrets.SerializeToString(), associated(*place))
    message.secrets.key_id, message.secrets.box = box.key_id, box.box
    return message


def test_real_numbers_are_found_by_their_tags_only(made: Fixture) -> None:
    caller, tag = router.CallSecrets(caller_tag=b"c" * 16), b"c" * 16
    person = binding.SubjectSecrets(tag=tag)
    consent = binding.ConsentFact(tenant="taxi", consent="k", aggregate_version=2)
    listed = binding.BlacklistFact(tenant="taxi", entry="e", aggregate_version=1)
    decision = router.CallFact(carrier="c", call_id="1", journal="j", journal_sequence=3)
    messages = [
        sealed(made, router.CallRouted(fact=decision, binding=BEHIND), caller,
               "call-event", "c", "1", "j", 3),
        sealed(made, router.CallRefused(fact=decision, binding=BEHIND), caller,
               "call-event", "c", "1", "j", 3),
        sealed(made, router.CallRecorded(carrier="c", call_id="1", sequence=1, binding=BEHIND),
               caller, "call-record", "c", "1", 1),
        sealed(made, binding.ConsentWithdrawn(fact=consent), binding.ConsentSecrets(tag=tag),
               "consent-event", "taxi", "k", 2),
        sealed(made, binding.BlacklistEntryAdded(fact=listed),
               binding.BlacklistSecrets(caller_tag=tag), "blacklist-event", "taxi", "e", 1),
        sealed(made, binding.SubjectRestricted(tenant="taxi", erasure="x"), person,
               "erasure", "taxi", "x"),
        sealed(made, binding.SubjectExported(tenant="taxi", export="x"), person,
               "export", "taxi", "x"),
    ]  # fmt: skip
    for message in messages:
        row = made.row(message)
        assert (row.parties, row.bucket) == ((tag,), message.secrets.key_id), message.DESCRIPTOR
    row = made.row(created("b1", made.sealer, tags=(tag, b"")))
    assert (row.parties, made.unreadable) == ((tag,), 0)


def test_what_a_moment_is(made: Fixture) -> None:
    def moment(message: Any) -> Moment:
        return moment_of(event_of(record(message, "e5"), TYPES).entry)

    starts = created("b1", until_ms=900, mode=7)
    starts.fact.options.start_time.FromMilliseconds(300)
    assert moment(starts) == Moment(300, 900, ended=False, open=True)
    two = created("b1", until_ms=900, mode=3)
    assert not moment(two).open
    gone = created("b1", kind=binding.BindingReleased, until_ms=5)
    assert moment(gone) == Moment(0, 0, ended=True, open=False)
    assert all(name in TYPES for name in TERMS)


def test_an_erased_order_is_gone_and_no_alarm(made: Fixture) -> None:
    message = created("b1", made.sealer, order="order-77")
    made.ring.destroy(message.secrets.key_id)
    assert made.row(message) == made.row(created("b1"))
    assert made.unreadable == 0


def test_a_broken_seal_is_counted(made: Fixture) -> None:
    moved = created("b1", made.sealer, order="o")
    moved.fact.binding = "b2"
    assert made.row(moved).order_tag is None
    nonsense = created("b1")
    nonsense.secrets.key_id = "purge/../x"
    assert made.row(nonsense).order_tag is None
    assert made.unreadable == 2


def test_a_real_number_that_strayed_in_is_not_searchable(made: Fixture) -> None:
    refused = router.CallRefused(fact=FACT, number="13800138000")
    assert made.row(refused).numbers == ()


def test_a_parked_record_is_found_by_id_and_type(made: Fixture) -> None:
    row = made.extract(0, parked_event(record(created("b1"), offset=3), "TYPE_UNKNOWN").entry)
    assert row.event_id == "parked/binding.bindings.v1/0/3"
    assert (row.type, row.tenant) == ("axbridge.audit.v1.ParkedEvent", "")
