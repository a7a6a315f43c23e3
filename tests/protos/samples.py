"""One fully filled sample of every message that stands in Kafka, by the name of its golden file.

A sample is never changed, for its bytes are in someone's log. A message that gained a field gets a
further sample, `<message>.<what is new>`; the old one then shows that old bytes still decode.
"""

from axbridge.allocator.v1 import events_pb2 as allocator
from axbridge.allocator.v1 import number_pb2 as number
from axbridge.binding.v1 import binding_pb2 as binding_types
from axbridge.binding.v1 import events_pb2 as binding
from axbridge.router.v1 import call_pb2 as call
from axbridge.router.v1 import events_pb2 as router
from axbridge.type.v1 import sealed_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from tests.protos.audit_samples import AUDIT
from tests.protos.register_samples import REGISTER_SAMPLES
from tests.protos.retention_samples import RETENTION

NUMBER = "700123456780001"


def at(seconds: int) -> Timestamp:
    return Timestamp(seconds=1_770_000_000 + seconds, nanos=123_000_000)


def sealed(key: str, octet: int) -> sealed_pb2.Sealed:
    return sealed_pb2.Sealed(key_id=key, box=bytes([1]) + bytes([octet]) * 12)


SECRETS = sealed("purge/taxi/202608", 0xA1)
POOL = number.Pool(
    name="tenants/taxi/pools/city",
    policy=number.POOL_POLICY_SHARED,
    cooling=Duration(seconds=86_400, nanos=500_000_000),
    create_time=at(0),
)
BLOCK = number.Block(name="blocks/70012345678", pool=POOL.name, create_time=at(1))
BINDING_FACT = binding.BindingFact(
    tenant="taxi",
    binding="018f2c6e-0000-7000-8000-000000000001",
    number=NUMBER,
    pool=POOL.name,
    mode=binding_types.BINDING_MODE_AXB,
    aggregate_version=4_294_967_298,
    direction=binding_types.CALL_DIRECTION_A_TO_B,
    max_call_minutes=30,
    expire_time=at(3600),
    industry_id="taxi",
    lease_epoch=7,
)
OPTIONS = binding_types.BindingOptions(
    start_time=at(60),
    time_zone="Asia/Shanghai",
    windows=[binding_types.TimeWindow(weekdays=[1, 5], start_minute=540, end_minute=1080)],
    ring_timeout=Duration(seconds=30),
    recording=binding_types.RecordingOption(
        calls_of_a=binding_types.RecordingAnnouncements(to_caller="r1", to_callee="r2"),
        calls_of_b=binding_types.RecordingAnnouncements(to_caller="r3", to_callee="r4"),
    ),
    sms=binding_types.SMS_POLICY_REFUSED,
    mark=binding_types.MARK_POLICY_HIDDEN,
    unknown_caller=binding_types.UNKNOWN_CALLER_POLICY_PLAY_AND_RELEASE,
    unknown_caller_announcement="closed",
    ended_announcement="over",
    sliding_life=Duration(seconds=3600),
)
FACT_WITH_OPTIONS = binding.BindingFact(options=OPTIONS)
FACT_WITH_MODE = binding.BindingFact(
    mode=binding_types.BINDING_MODE_AXE,
    options=binding_types.BindingOptions(callback_life=Duration(seconds=600)),
    extension="0042",
    callee_expire_time=at(60),
)
FACT_WITH_TWO_NUMBERS = binding.BindingFact(
    mode=binding_types.BINDING_MODE_AXYB,
    number=NUMBER,
    lease_epoch=4,
    second_number="700100000019999",
    second_lease_epoch=5,
)
ROUTE_WITH_TWO_NUMBERS = binding.Route(
    mode=binding_types.BINDING_MODE_AXYB,
    options=f"numbers={NUMBER}-700100000019999",
    lease_epoch=4,
    other_lease_epoch=5,
)
ROUTE_WITH_OPTIONS = binding.Route(options="ring_seconds=30;after=over")
ROUTE = binding.Route(
    tenant="taxi",
    binding=BINDING_FACT.binding,
    number=NUMBER,
    version=2,
    mode=binding_types.BINDING_MODE_AXB,
    state=binding_types.BINDING_STATE_RELEASED,
    direction=binding_types.CALL_DIRECTION_BOTH,
    max_call_minutes=30,
    expire_time=at(3600),
    tag_a=bytes(range(16)),
    tag_b=bytes(range(16, 32)),
    callee_a=sealed("route/taxi/20260202", 0xB1),
    callee_b=sealed("route/taxi/20260202", 0xB2),
    pool=POOL.name,
    lease_epoch=7,
    cool_until=at(7200),
    release_reason=binding_types.RELEASE_REASON_EXPIRED,
    industry_id="taxi",
)
CALL_FACT = router.CallFact(
    carrier="cmcc",
    call_id="4711@switch-1",
    journal="r1-0-5f3a",
    journal_sequence=42,
    time=at(100),
)
CALL_BINDING = router.CallBinding(
    tenant="taxi", binding=BINDING_FACT.binding, version=2, industry_id="taxi"
)

BLOCK_IN_FULL = number.Block(
    name=BLOCK.name, pool=POOL.name, area="440300", state=number.BLOCK_STATE_SUSPENDED
)
POOL_IN_FULL = number.Pool(name=POOL.name, pair_cooling=Duration(seconds=172_800))

SAMPLES: dict[str, Message] = {
    "allocator.v1.PoolCreated.pairs": allocator.PoolCreated(pool=POOL_IN_FULL),
    "allocator.v1.BlockRegistered.area": allocator.BlockRegistered(
        block=BLOCK_IN_FULL, tenant="taxi"
    ),
    "allocator.v1.BlockChanged": allocator.BlockChanged(block=BLOCK, reason="fraud 2026-3"),
    "allocator.v1.BlockChanged.area": allocator.BlockChanged(block=BLOCK_IN_FULL),
    "allocator.v1.NumbersLeased.sticky": allocator.NumbersLeased(
        leases=[
            number.Lease(
                number=f"numbers/{NUMBER}", pair_cooling=Duration(seconds=172_800), sticky=True
            )
        ],
    ),
    "allocator.v1.NumberChanged.history": allocator.NumberChanged(
        number=number.Number(
            name=f"numbers/{NUMBER}",
            history=[number.NumberTransition(state=number.NUMBER_STATE_RESERVED, time=at(9))],
        ),
        change=allocator.NUMBER_CHANGE_RESERVED,
    ),
    "allocator.v1.StateRecord.pool.pairs": allocator.StateRecord(version=2, pool=POOL_IN_FULL),
    "allocator.v1.StateRecord.block.area": allocator.StateRecord(
        version=3, block=allocator.BlockRecord(block=BLOCK_IN_FULL)
    ),
    "allocator.v1.StateRecord.reserve": allocator.StateRecord(
        version=4,
        reserve=allocator.LockRecord(number=NUMBER, reason="hotline", lock_time=at(50)),
    ),
    "allocator.v1.StateRecord.import": allocator.StateRecord(
        version=5,
        imported=allocator.ImportRecord(
            number=NUMBER, import_id="i-1", lease_epoch=8, expire_time=at(60)
        ),
    ),
    "allocator.v1.PoolCreated": allocator.PoolCreated(pool=POOL),
    "allocator.v1.BlockRegistered": allocator.BlockRegistered(block=BLOCK, tenant="taxi"),
    "allocator.v1.NumbersLeased": allocator.NumbersLeased(
        pool=POOL.name,
        leases=[
            number.Lease(
                number=f"numbers/{NUMBER}",
                epoch=7,
                expire_time=at(30),
                policy=number.POOL_POLICY_EXCLUSIVE,
                cooling=Duration(seconds=86_400),
            ),
            number.Lease(number="numbers/700123456780002", epoch=8, expire_time=at(31)),
        ],
    ),
    "allocator.v1.NumberChanged": allocator.NumberChanged(
        number=number.Number(
            name=f"numbers/{NUMBER}",
            pool=POOL.name,
            state=number.NUMBER_STATE_LOCKED,
            pairs=200,
            cool_until=at(7200),
            version=9,
        ),
        change=allocator.NUMBER_CHANGE_LOCKED,
        reason="complaint 2026-17",
    ),
    "allocator.v1.StateRecord.cell": allocator.StateRecord(
        version=1, cell=allocator.CellRecord(epoch=3)
    ),
    "allocator.v1.StateRecord.pool": allocator.StateRecord(version=2, pool=POOL),
    "allocator.v1.StateRecord.block": allocator.StateRecord(
        version=3, block=allocator.BlockRecord(block=BLOCK, cursor=9_999, lease_epoch=7)
    ),
    "allocator.v1.StateRecord.lock": allocator.StateRecord(
        version=4,
        lock=allocator.LockRecord(number=NUMBER, reason="complaint 2026-17", lock_time=at(50)),
    ),
    "binding.v1.BindingCreated": binding.BindingCreated(fact=BINDING_FACT, secrets=SECRETS),
    "binding.v1.BindingUpdated": binding.BindingUpdated(fact=BINDING_FACT, secrets=SECRETS),
    "binding.v1.BindingReleased": binding.BindingReleased(
        fact=BINDING_FACT,
        secrets=SECRETS,
        reason=binding_types.RELEASE_REASON_REQUESTED,
        release_time=at(1800),
        cool_until=at(7200),
    ),
    "binding.v1.StateRecord.cell": binding.StateRecord(cell=binding.CellRecord(epoch=3)),
    "binding.v1.StateRecord.binding": binding.StateRecord(
        binding=binding.BindingRecord(
            route=ROUTE,
            create_time=at(0),
            update_time=at(60),
            release_time=at(1800),
            secrets=SECRETS,
            requests=[
                binding.AnsweredRequest(
                    request_id="3f2504e0-4f89-41d3-9a0c-0305e82c3301",
                    body_hash=bytes(range(32)),
                    time=at(0),
                    version=1,
                )
            ],
            cooling_ms=86_400_000,
            exclusive=True,
        )
    ),
    "binding.v1.Route": ROUTE,
    "binding.v1.RouteKey": binding.RouteKey(
        key_id="route/taxi/20260202", wrapped=sealed("route-wrapping", 0xC1)
    ),
    "binding.v1.RouteKey.rotated": binding.RouteKey(
        key_id="route/taxi/20260202",
        wrapped=sealed("route-wrapping/2/20260202", 0xC2),
        previous_wrapping="route-wrapping",
        rewrap_time=at(5),
    ),
    "router.v1.CallRouted": router.CallRouted(
        fact=CALL_FACT,
        number=NUMBER,
        binding=CALL_BINDING,
        calling_side=router.CALLING_SIDE_B,
        trunk="trunk-3",
        max_duration=Duration(seconds=1800),
        view_age=Duration(nanos=80_000_000),
        secrets=SECRETS,
    ),
    "router.v1.CallRefused": router.CallRefused(
        fact=CALL_FACT,
        number=NUMBER,
        binding=CALL_BINDING,
        reason=call.REFUSAL_REASON_EXPIRED,
        q850_cause=21,
        trunk="trunk-3",
        view_age=Duration(nanos=80_000_000),
        secrets=SECRETS,
    ),
    "router.v1.CallRouted.verified": router.CallRouted(verdict=call.CALL_VERDICT_GENUINE),
    "router.v1.CallRefused.verified": router.CallRefused(
        reason=call.REFUSAL_REASON_NOT_GENUINE, verdict=call.CALL_VERDICT_NOT_GENUINE_CACHED
    ),
    "router.v1.ViewApplied": router.ViewApplied(
        router="r1",
        time=at(100),
        fresh_time=at(99),
        positions=[router.TopicPositions(topic="binding.routes.v1", next_offsets=[7, 0, 300])],
    ),
    "router.v1.CallRouted.message": router.CallRouted(
        message=router.MessageFact(encoding=call.TEXT_ENCODING_UCS2, parts=3)
    ),
    "router.v1.CallRefused.message": router.CallRefused(
        reason=call.REFUSAL_REASON_TEXT_HAS_NUMBER,
        message=router.MessageFact(encoding=call.TEXT_ENCODING_GSM7, parts=1),
    ),
    "router.v1.CallProgressed": router.CallProgressed(
        fact=CALL_FACT,
        leg=call.CALL_LEG_CALLEE,
        sequence=3,
        kind=call.CALL_EVENT_KIND_ENDED,
        event_time=at(160),
        q850_cause=16,
        release_side=call.RELEASE_SIDE_CALLER,
    ),
    "router.v1.CallRecorded": router.CallRecorded(
        carrier="cmcc",
        call_id="4711@switch-1",
        sequence=4,
        number=NUMBER,
        binding=CALL_BINDING,
        calling_side=router.CALLING_SIDE_A,
        outcome=router.CALL_OUTCOME_ANSWERED,
        refusal_reason=call.REFUSAL_REASON_DIRECTION,
        call_time=at(100),
        ring_time=at(102),
        answer_time=at(105),
        end_time=at(160),
        duration=Duration(seconds=55),
        q850_cause=16,
        release_side=call.RELEASE_SIDE_NETWORK,
        trunk="trunk-3",
        secrets=SECRETS,
    ),
    "binding.v1.BindingCreated.options": binding.BindingCreated(fact=FACT_WITH_OPTIONS),
    "binding.v1.BindingUpdated.options": binding.BindingUpdated(fact=FACT_WITH_OPTIONS),
    "binding.v1.BindingReleased.options": binding.BindingReleased(fact=FACT_WITH_OPTIONS),
    "binding.v1.BindingCreated.mode": binding.BindingCreated(fact=FACT_WITH_MODE),
    "binding.v1.BindingUpdated.mode": binding.BindingUpdated(fact=FACT_WITH_MODE),
    "binding.v1.BindingReleased.mode": binding.BindingReleased(fact=FACT_WITH_MODE),
    "binding.v1.BindingCreated.two": binding.BindingCreated(fact=FACT_WITH_TWO_NUMBERS),
    "binding.v1.BindingUpdated.two": binding.BindingUpdated(fact=FACT_WITH_TWO_NUMBERS),
    "binding.v1.BindingReleased.two": binding.BindingReleased(fact=FACT_WITH_TWO_NUMBERS),
    "binding.v1.Route.two": ROUTE_WITH_TWO_NUMBERS,
    "binding.v1.Route.options": ROUTE_WITH_OPTIONS,
    "router.v1.LastCaller": router.LastCaller(
        tenant="taxi",
        binding=BINDING_FACT.binding,
        number=NUMBER,
        time=at(0),
        expire_time=at(600),
        caller=sealed("route/taxi/20260202", 0xB3),
    ),
    "binding.v1.StateRecord.order": binding.StateRecord(
        binding=binding.BindingRecord(order_tag=b"o" * 16)
    ),
    "binding.v1.StateRecord.options": binding.StateRecord(
        binding=binding.BindingRecord(route=ROUTE_WITH_OPTIONS)
    ),
    "binding.v1.StateRecord.pairs": binding.StateRecord(
        binding=binding.BindingRecord(pair_cooling_ms=90_000)
    ),
    "binding.v1.StateRecord.two": binding.StateRecord(
        binding=binding.BindingRecord(route=ROUTE_WITH_TWO_NUMBERS)
    ),
    # What lies inside the sealed parts of the above.
    "binding.v1.BindingSecrets": binding.BindingSecrets(
        tag_a=bytes(range(16)),
        tag_b=bytes(range(16, 32)),
        order_id="order-1",
        customer_data=b"\x00\xff opaque",
        evidence=sealed("evidence/taxi/202608", 0xD1),
    ),
    **REGISTER_SAMPLES,
    **AUDIT,
    "router.v1.CallSecrets": router.CallSecrets(
        caller_tag=bytes(range(16)), caller_evidence=sealed("evidence/taxi/202608", 0xD2)
    ),
} | RETENTION
