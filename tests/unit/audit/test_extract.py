"""What the index knows of each event, and what it must never know."""

from typing import Any

import pytest
from axbridge.allocator.v1 import events_pb2 as allocator
from axbridge.allocator.v1.number_pb2 import Block, Number, Pool
from axbridge.binding.v1 import events_pb2 as binding
from axbridge.binding.v1.retention_pb2 import LegalHold
from axbridge.router.v1 import events_pb2 as router

from services.audit.domain import IndexRow
from services.audit.entry import event_of, parked_event, types_of
from services.audit.extract import _READERS, Extractor
from services.runtime.keyring import MemoryKeyRing
from services.runtime.sealing import PurgeSealer, Tagger
from services.runtime.topics import EVENT_TOPICS
from tests.audit_events import TIME_MS, created, leased, number, record, routed

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
        (created("b1", serial=1), {"tenant": "taxi", "binding": "b1", "numbers": (ONE,)}),
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
    without = made.row(created("b1", made.sealer))
    assert (without.order_tag, without.bucket) == (None, "")


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
