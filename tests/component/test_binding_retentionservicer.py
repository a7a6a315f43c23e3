"""People's requests and the purge, through the real service on real brokers."""

import asyncio
import json
import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from axbridge.binding.v1 import (
    binding_pb2,
    consent_service_pb2,
    consent_service_pb2_grpc,
    events_pb2,
    retention_pb2,
    retention_service_pb2,
    retention_service_pb2_grpc,
)
from axbridge.type.v1 import phone_number_pb2
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from deploy.local.compaction import contents
from services.binding.export import open_part
from services.binding.keeper import read_keys
from tests.component.binding_world import TENANT, A, B, C, World, refusal, world

PRIVATE = X25519PrivateKey.generate()
ROOT = Path(__file__).parents[2]


@pytest.fixture
async def running(kafka_bootstrap: str, valkey_url: str, tmp_path: Path) -> AsyncIterator[World]:
    async with world(kafka_bootstrap, valkey_url, tmp_path) as made:
        yield made


def stub(running: World) -> Any:
    return retention_service_pb2_grpc.RetentionServiceStub(running.channel)


def erase(party: str = A, **fields: Any) -> retention_service_pb2.EraseSubjectRequest:
    given = {"parent": TENANT, "request_id": str(uuid.uuid4())} | fields
    return retention_service_pb2.EraseSubjectRequest(
        party=phone_number_pb2.PhoneNumber(e164=party), **given
    )


def export(**fields: Any) -> retention_service_pb2.ExportSubjectRequest:
    given: dict[str, Any] = {
        "parent": TENANT,
        "request_id": str(uuid.uuid4()),
        "party": phone_number_pb2.PhoneNumber(e164=A),
        "recipient_key": PRIVATE.public_key().public_bytes_raw(),
    } | fields
    return retention_service_pb2.ExportSubjectRequest(**given)


async def test_an_erased_person_is_shown_to_nobody(running: World) -> None:
    request = running.request()
    made = await running.stub.CreateBinding(request, timeout=10)
    other = await running.create(number_a=phone_number_pb2.PhoneNumber(e164=C), order_id="order-2")
    party = phone_number_pb2.PhoneNumber(e164=A)
    asked = erase()
    erasure = await stub(running).EraseSubject(asked, timeout=10)
    assert (erasure.state, erasure.binding_count) == (retention_pb2.ERASURE_STATE_RESTRICTED, 1)
    assert await stub(running).EraseSubject(asked, timeout=10) == erasure
    gone = "NOT_FOUND BINDING_NOT_FOUND"
    assert await refusal(running.get(made.name)) == gone
    assert await refusal(running.release(made.name)) == gone
    assert await refusal(running.update(made.name, 2, 7200)) == gone
    assert await refusal(running.stub.CreateBinding(request, timeout=10)) == gone
    assert list((await running.list(party=party)).bindings) == []
    assert list((await running.list(order_id="order-1")).bindings) == []
    assert (await running.get(other.name)).state == binding_pb2.BINDING_STATE_ACTIVE
    assert list((await running.list(party=phone_number_pb2.PhoneNumber(e164=B))).bindings) == [
        await running.get(other.name)
    ]
    again = await running.create(order_id="order-3")  # on a new consent
    assert [b.name for b in (await running.list(party=party)).bindings] == [again.name]


async def test_an_erased_persons_consent_is_over_and_a_new_one_binds_again(running: World) -> None:
    consents, pb = consent_service_pb2_grpc.ConsentServiceStub(running.channel), consent_service_pb2

    async def granted() -> Any:
        return await consents.GrantConsent(
            pb.GrantConsentRequest(
                parent=TENANT, request_id=str(uuid.uuid4()), terms_version="terms-3",
                person=phone_number_pb2.PhoneNumber(e164=A), channel="app", evidence_ref="scan/1",
            ), timeout=10,
        )  # fmt: skip

    given = await granted()
    made = await running.create()
    assert made.consent_a == given.name
    erasure = await stub(running).EraseSubject(erase(), timeout=10)
    assert (erasure.binding_count, erasure.consent_count) == (1, 1)
    assert (
        await refusal(consents.GetConsent(pb.GetConsentRequest(name=given.name), timeout=5))
        == "NOT_FOUND CONSENT_NOT_FOUND"
    )
    page = await consents.ListConsents(pb.ListConsentsRequest(parent=TENANT), timeout=5)
    assert given.name not in {each.name for each in page.consents}
    asked = running.request(order_id="order-4")
    refused = await refusal(running.stub.CreateBinding(asked, timeout=10))
    assert refused == "FAILED_PRECONDITION CONSENT_MISSING"
    new = await granted()
    assert (await running.create(order_id="order-5")).consent_a == new.name


async def test_a_person_gets_its_data_sealed(running: World) -> None:
    made = await running.create()
    asked = export()
    boxes = [each.box async for each in stub(running).ExportSubject(asked, timeout=30)]
    parts = [
        retention_service_pb2.SubjectData.FromString(
            open_part(PRIVATE.private_bytes_raw(), "didi", asked.request_id, number, box)
        )
        for number, box in enumerate(boxes)
    ]
    ours = [e for part in parts for e in part.events if e.fact.binding in made.name]
    assert [(e.order_id, e.customer_data, e.side) for e in ours] == [("order-1", b"opaque", "A")]


async def test_what_is_malformed_is_refused(running: World) -> None:
    service = stub(running)
    bad = "INVALID_ARGUMENT INVALID_FIELD"
    assert await refusal(service.EraseSubject(erase(parent="didi"), timeout=5)) == bad
    assert (
        await refusal(service.EraseSubject(erase(request_id="x"), timeout=5))
        == "INVALID_ARGUMENT REQUEST_ID_INVALID"
    )
    assert (
        await refusal(service.EraseSubject(erase("123"), timeout=5))
        == "INVALID_ARGUMENT PARTY_NUMBER_INVALID"
    )
    for key in (b"short", bytes(32)):
        call = service.ExportSubject(export(recipient_key=key), timeout=5)
        assert await refusal(anext(aiter(call))) == bad


async def test_a_case_is_set_and_released(running: World) -> None:
    made = await running.create()
    name = f"{TENANT}/legalHolds/case-{uuid.uuid4().hex[:8]}"
    service, message = stub(running), retention_service_pb2.SetLegalHoldRequest
    asked = message(name=name, reference="decision 7", bindings=[made.name])
    hold = await service.SetLegalHold(asked, timeout=30)
    assert (hold.state, list(hold.missing)) == (retention_pb2.LEGAL_HOLD_STATE_SET, [])
    other = message(name=name, reference="decision 8", bindings=[made.name])
    assert await refusal(service.SetLegalHold(other)) == "ALREADY_EXISTS CASE_EXISTS"
    bad = "INVALID_ARGUMENT INVALID_FIELD"
    for wrong in (
        message(name="case-1", reference="r", bindings=[made.name]),
        message(name=name, reference="", bindings=[made.name]),
        message(name=name, reference="a\nb", bindings=[made.name]),
        message(name=name, reference="r"),
        message(name=name, reference="r", bindings=[made.name.replace("didi", "other")]),
    ):
        assert await refusal(service.SetLegalHold(wrong, timeout=5)) == bad
    release = retention_service_pb2.ReleaseLegalHoldRequest(name=name)
    released = await service.ReleaseLegalHold(release, timeout=10)
    assert released.state == retention_pb2.LEGAL_HOLD_STATE_RELEASED
    unknown = retention_service_pb2.ReleaseLegalHoldRequest(name=f"{TENANT}/legalHolds/none")
    assert await refusal(service.ReleaseLegalHold(unknown)) == "NOT_FOUND CASE_NOT_FOUND"


async def test_the_purge_by_hand_says_what_it_did_and_does_it_once(running: World) -> None:
    await running.create()
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "gen")]),
        "BINDING_KAFKA_BOOTSTRAP": running.bootstrap,
        "BINDING_REDIS_URL": running.settings.redis_url.get_secret_value(),
        "BINDING_ALLOCATOR_TARGET": running.settings.allocator_target,
        "BINDING_KEYRING_DIR": str(running.settings.keyring_dir),
        "BINDING_EVIDENCE_PUBLIC_KEY": str(running.settings.evidence_public_key),
        "BINDING_CELL": running.settings.cell,
    }

    def purge(*arguments: str) -> tuple[int, list[Any], str]:
        done = subprocess.run(
            [sys.executable, "-m", "services.binding", "purge", *arguments],
            cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr

    status, done, problems = await asyncio.to_thread(purge)
    assert (status, problems) == (0, "")
    [told] = done
    assert told["bucket"].startswith("purge/didi/")
    assert (await asyncio.to_thread(purge))[:2] == (0, [])
    ahead = await asyncio.to_thread(purge, "--now", "2999-01-01T00:00:00+00:00")
    assert (ahead[0], "ahead of now" in ahead[2] or "invalid" in ahead[2]) == (2, True)
    events = [
        events_pb2.BucketPurged.FromString(record.value or b"")
        for record in contents(running.bootstrap, "binding.retention.v1")
        if (record.key or b"").endswith(running.settings.cell.encode())
    ]
    assert [event.bucket for event in events] == [told["bucket"]]


async def test_the_owner_makes_route_keys_ahead(
    kafka_bootstrap: str, valkey_url: str, tmp_path: Path
) -> None:
    async with world(kafka_bootstrap, valkey_url, tmp_path) as running:
        await running.create()

    async def ahead() -> int:
        found = await read_keys(running.bootstrap)
        return sum(f"@{running.settings.cell}/" in key for key in found)

    async with running.running(), asyncio.timeout(30):  # another process owns the cell next
        while await ahead() < 8:
            await asyncio.sleep(0.2)
