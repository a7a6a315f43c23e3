"""ConsentService over gRPC, on real brokers, with allocator stood in for."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from axbridge.binding.v1 import (
    binding_pb2,
    consent_pb2,
    consent_service_pb2,
    consent_service_pb2_grpc,
    events_pb2,
)
from axbridge.type.v1.phone_number_pb2 import PhoneNumber
from google.protobuf.duration_pb2 import Duration

from tests.component.binding_world import (
    TENANT,
    A,
    B,
    World,
    ahead,
    published,
    refusal,
    until,
    world,
)

pb = consent_service_pb2
RELEASED = binding_pb2.BINDING_STATE_RELEASED
REF = "scan/4711"


class Consenting:
    """A world and the stub of the service."""

    def __init__(self, w: World) -> None:
        self.w = w
        self.stub: Any = consent_service_pb2_grpc.ConsentServiceStub(w.channel)

    async def grant(self, e164: str = A, **fields: Any) -> consent_pb2.Consent:
        given: dict[str, Any] = {
            "parent": TENANT, "request_id": str(uuid.uuid4()), "terms_version": "terms-3",
            "person": PhoneNumber(e164=e164), "channel": "app", "evidence_ref": REF,
        } | fields  # fmt: skip
        request = pb.GrantConsentRequest(**given)
        return await self.stub.GrantConsent(request, timeout=10)  # type: ignore[no-any-return]

    async def ask(self, name: str, **fields: Any) -> Any:
        given = {"name": name, "request_id": str(uuid.uuid4())} | fields
        return await self.stub.WithdrawConsent(pb.WithdrawConsentRequest(**given), timeout=10)

    async def confirm(self, name: str, token: str, **fields: Any) -> consent_pb2.Consent:
        given = {
            "name": name, "request_id": str(uuid.uuid4()), "confirmation_token": token,
        } | fields  # fmt: skip
        request = pb.ConfirmWithdrawalRequest(**given)
        return await self.stub.ConfirmWithdrawal(request, timeout=10)  # type: ignore[no-any-return]

    async def get(self, name: str) -> consent_pb2.Consent:
        request = pb.GetConsentRequest(name=name)
        return await self.stub.GetConsent(request, timeout=5)  # type: ignore[no-any-return]

    async def list(self, **fields: Any) -> Any:
        request = pb.ListConsentsRequest(**({"parent": TENANT} | fields))
        return await self.stub.ListConsents(request, timeout=5)

    async def set_policy(self, parties: int, version: int = 0, seconds: float = 600) -> Any:
        policy = consent_pb2.ConsentPolicy(
            name=f"{TENANT}/consentPolicy", version=version,
            parties=consent_pb2.ConsentParties.ValueType(parties),
            grace=Duration(seconds=int(seconds), nanos=round(seconds % 1 * 1e3) * 10**6),
        )  # fmt: skip
        request = pb.SetConsentPolicyRequest(policy=policy)
        return await self.stub.SetConsentPolicy(request, timeout=10)


@pytest.fixture
async def c(kafka_bootstrap: str, valkey_url: str, tmp_path: Path) -> AsyncIterator[Consenting]:
    async with world(kafka_bootstrap, valkey_url, tmp_path) as made:
        yield Consenting(made)


async def test_a_binding_rests_on_the_consents_it_names(c: Consenting) -> None:
    await c.set_policy(consent_pb2.CONSENT_PARTIES_BOTH)
    missing = "FAILED_PRECONDITION CONSENT_MISSING"
    assert await refusal(c.w.create()) == missing
    a = await c.grant()
    assert await refusal(c.w.create()) == missing
    b = await c.grant(B)
    made = await c.w.create()
    assert (made.consent_a, made.consent_b) == (a.name, b.name)
    assert await c.w.get(made.name) == made
    event = events_pb2.BindingCreated.FromString(published(c.w, "binding.bindings.v1")[0].value)
    assert (event.fact.consent_a, event.fact.consent_b) == (a.name, b.name)


async def test_consents_are_read_and_listed(c: Consenting) -> None:
    a, b = await c.grant(), await c.grant(B, expire_time=ahead(3600))
    assert (a.terms_version, a.channel, a.evidence_ref, a.version) == ("terms-3", "app", REF, 1)
    assert await c.get(a.name) == a
    assert list((await c.list()).consents) == [a, b]
    assert list((await c.list(person=PhoneNumber(e164=B))).consents) == [b]
    first = await c.list(page_size=1)
    rest = await c.list(page_size=1, page_token=first.next_page_token)
    assert (list(rest.consents), rest.next_page_token) == ([b], "")
    foreign = a.name.replace(TENANT, "tenants/other")
    assert await refusal(c.get(foreign)) == "NOT_FOUND CONSENT_NOT_FOUND"
    assert await refusal(c.list(parent="x")) == "INVALID_ARGUMENT INVALID_FIELD"
    assert await refusal(c.grant("12")) == "INVALID_ARGUMENT PARTY_NUMBER_INVALID"


async def test_events_tell_the_life_and_hold_nothing_personal(c: Consenting) -> None:
    await c.set_policy(consent_pb2.CONSENT_PARTIES_NONE, seconds=300)
    made = await c.grant()
    asked = await c.ask(made.name, locale="en")
    assert "real number may become visible" in asked.notice.text
    await c.confirm(made.name, asked.confirmation_token)
    await until(lambda: len(published(c.w, "binding.consents.v1")) == 5)
    events = published(c.w, "binding.consents.v1")
    told = [dict(r.headers)["ce_type"].decode().rpartition(".")[2] for r in events]
    assert sorted(told) == [
        "ConsentDrained", "ConsentGranted", "ConsentPolicyChanged", "ConsentWithdrawalRequested",
        "ConsentWithdrawn",
    ]  # fmt: skip
    identity = made.name.rpartition("/")[2]
    ids = {dict(r.headers)["ce_id"].decode() for r in events}
    assert ids == {f"{identity}-{v}" for v in (1, 2, 3, 4)} | {"policy-didi-1"}
    for record in (*events, *published(c.w, "binding.state.v1")):
        text = (record.key or b"") + (record.value or b"") + repr(record.headers).encode()
        assert A[3:].encode() not in text
        assert REF.encode() not in text


async def test_a_withdrawal_drains_what_is_live_and_releases_it_once(c: Consenting) -> None:
    await c.set_policy(consent_pb2.CONSENT_PARTIES_A, seconds=1.5)
    consent = await c.grant()
    made = [await c.w.create() for _ in range(5)]
    asked = await c.ask(consent.name)
    assert sorted(asked.bindings) == sorted(binding.name for binding in made)
    assert asked.binding_count == 5
    assert await refusal(c.confirm(consent.name, "0" * 32)) == (
        "FAILED_PRECONDITION CONFIRMATION_INVALID"
    )
    gone = await c.confirm(consent.name, asked.confirmation_token)
    assert await refusal(c.w.create()) == "FAILED_PRECONDITION CONSENT_MISSING"
    repeated = await c.confirm(consent.name, asked.confirmation_token)
    assert repeated.drain_until == gone.drain_until
    await until_async(lambda: c.get(consent.name), consent_pb2.CONSENT_STATE_WITHDRAWN)
    # Through the grace period they connect; routers know when it ends.
    routes = [events_pb2.Route.FromString(r.value) for r in published(c.w, "binding.routes.v1")]
    drains = [route for route in routes if route.HasField("drain_until")]
    assert {route.binding for route in drains} == {b.name.rpartition("/")[2] for b in made}
    assert all(
        route.expire_time == route.drain_until == gone.drain_until and route.callee_a.box
        for route in drains
        if route.state == binding_pb2.BINDING_STATE_ACTIVE
    )
    late = await refusal(c.w.update(made[0].name, 2, 7200))
    assert late.removeprefix("FAILED_PRECONDITION ") in {"BINDING_DRAINING", "BINDING_ENDED"}
    for binding in made:
        await until_async(lambda name=binding.name: c.w.get(name), RELEASED)
    ended = await c.w.get(made[0].name)
    assert ended.release_reason == binding_pb2.RELEASE_REASON_CONSENT_WITHDRAWN
    assert ended.release_time.ToNanoseconds() >= gone.drain_until.ToNanoseconds()
    types = [dict(r.headers)["ce_type"] for r in published(c.w, "binding.bindings.v1")]
    assert [types.count(f"axbridge.binding.v1.Binding{kind}".encode()) for kind in (
        "Created", "Updated", "Released")] == [5, 5, 5]  # fmt: skip
    again = await c.grant()
    assert (await c.w.create()).consent_a == again.name


async def until_async(read: Any, state: int) -> None:
    """Waits until what `read` gives is in the state."""
    async with asyncio.timeout(30):
        while (await read()).state != state:
            await asyncio.sleep(0.02)


async def test_a_restarted_service_goes_on_with_the_drain(c: Consenting) -> None:
    consent = await c.grant()
    made = await c.w.create()
    asked = await c.ask(consent.name)
    await c.confirm(consent.name, asked.confirmation_token)
    async with c.w.running():  # a second process; either owns the cell
        other = Consenting(c.w)
        await until_async(lambda: other.get(consent.name), consent_pb2.CONSENT_STATE_WITHDRAWN)
        now = await c.w.get(made.name)
        assert now.drain_until.ToMilliseconds() > 0
        assert now.version == 2
        page = await other.stub.ListConsentBindings(
            pb.ListConsentBindingsRequest(parent=consent.name), timeout=5
        )
        assert list(page.bindings) == [made.name]


async def test_a_policy_is_compare_and_set(c: Consenting) -> None:
    request = pb.GetConsentPolicyRequest(name=f"{TENANT}/consentPolicy")
    default = await c.stub.GetConsentPolicy(request, timeout=5)
    assert (default.parties, default.grace.seconds, default.version) == (1, 600, 0)
    first = await c.set_policy(consent_pb2.CONSENT_PARTIES_A)
    assert await c.set_policy(consent_pb2.CONSENT_PARTIES_A) == first
    assert await refusal(c.set_policy(consent_pb2.CONSENT_PARTIES_B)) == "ABORTED VERSION_STALE"
    second = await c.set_policy(consent_pb2.CONSENT_PARTIES_B, version=1)
    assert await c.stub.GetConsentPolicy(request, timeout=5) == second


async def test_random_bytes_are_refused_not_fatal(c: Consenting) -> None:
    for method in ("GrantConsent", "WithdrawConsent", "ConfirmWithdrawal", "SetConsentPolicy"):
        call = c.w.channel.unary_unary(f"/axbridge.binding.v1.ConsentService/{method}")
        for raw in (b"\xff" * 40, b"\x0a\x05abc", bytes(range(256))):
            assert (await refusal(call(raw, timeout=5))).startswith("INVALID_ARGUMENT")
    assert (await c.grant()).version == 1
