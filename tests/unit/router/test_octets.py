"""What is written by hand is what the message gives, octet for octet."""

from axbridge.router.v1 import call_pb2
from axbridge.router.v1 import router_service_pb2 as rpc
from hypothesis import example, given
from hypothesis import strategies as st

from services.router.domain import Decision, Refusal
from services.router.octets import octets_from, result_from, results_from
from services.router.translate import response_from
from tests.unit.router.decisions import ENTRY, NOW, B, decision

NAMES = st.text(max_size=70) | st.from_regex(r"[a-z0-9-]{1,128}", fullmatch=True)


def same(made: Decision) -> bool:
    return octets_from(made) == response_from(made).SerializeToString(deterministic=True)


@given(
    tenant=NAMES, binding=NAMES, version=st.integers(1, 2**63 - 1), minutes=st.integers(0, 1440),
    age=st.integers(0, NOW), time=st.integers(0, 2 * NOW),
    callee=st.just(B) | st.from_regex(r"\+[0-9]{0,15}", fullmatch=True),
)  # fmt: skip
@example("t", "b", 127, 0, 0, 0, "+")
@example("t", "b" * 110, 128, 2, 999, 1000, B)
def test_a_connected_call(
    tenant: str, binding: str, version: int, minutes: int, age: int, time: int, callee: str
) -> None:
    entry = ENTRY._replace(
        tenant=tenant, binding=binding, version=version, max_call_minutes=minutes
    )
    assert same(decision(entry=entry, age_ms=age, time_ms=time, callee=callee))


def test_others() -> None:
    assert same(decision(Refusal.NOT_BOUND, entry=None))
    assert same(decision(Refusal.RELEASED))
    options = "ring_seconds=30;recording=a1,a2,b1,b2;mark=0"
    assert same(decision(entry=ENTRY._replace(options=options)))


@given(
    st.lists(st.binary(max_size=600), max_size=5), st.sampled_from((0, 127, 128, 511, 512, 9000))
)
def test_results(calls: list[bytes], size: int) -> None:
    answers = [
        rpc.RouteCallResponse(refuse=call_pb2.Refuse(announcement=call.hex())).SerializeToString()
        for call in (*calls, bytes(size))
    ]
    results = [
        rpc.RouteCallResult(response=rpc.RouteCallResponse.FromString(answer)) for answer in answers
    ]
    assert [result_from(answer) for answer in answers] == [r.SerializeToString() for r in results]
    assert (
        results_from(map(result_from, answers))
        == rpc.BatchRouteCallsResponse(results=results).SerializeToString()
    )
