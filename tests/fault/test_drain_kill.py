"""SIGKILL of binding while a withdrawn consent's bindings drain: each drains and ends once."""

import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from signal import SIGCONT, SIGSTOP

import redis
from axbridge.binding.v1 import (
    binding_pb2,
    binding_service_pb2,
    consent_pb2,
    consent_service_pb2,
    consent_service_pb2_grpc,
    events_pb2,
)
from axbridge.type.v1.phone_number_pb2 import PhoneNumber
from google.protobuf.duration_pb2 import Duration

from deploy.local.clients import create_request
from deploy.local.waiting import eventually
from tests import scene
from tests.scene import Scene, routes

BINDINGS = 450  # three pages of a drain
PAGE = 200
OUTBOX = "binding:{c0}:outbox"


def test_a_kill_between_pages_of_a_drain_ends_each_binding_once(stage: Scene) -> None:
    """Kafka stands still, so the drain waits behind its first page: there binding is killed. When
    it comes back the grace period is over."""
    a, tenant = stage.mobile(), f"tenants/{stage.tenant}"
    requests = [
        create_request(stage.tenant, "rides", a, stage.mobile(), f"o-{at}")
        for at in range(BINDINGS)
    ]
    stub = consent_service_pb2_grpc.ConsentServiceStub(stage.platform.channel)
    consent = granted(stub, tenant, a)
    batch = binding_service_pb2.BatchCreateBindingsRequest(parent=tenant, requests=requests)
    results = stage.platform.stub.BatchCreateBindings(batch, timeout=60).results
    bound = {each.binding.name.rpartition("/")[2] for each in results}
    assert len(bound) == BINDINGS
    asked = stub.WithdrawConsent(
        consent_service_pb2.WithdrawConsentRequest(name=consent, request_id=str(uuid.uuid4()))
    )
    confirmation = consent_service_pb2.ConfirmWithdrawalRequest(
        name=consent, request_id=str(uuid.uuid4()), confirmation_token=asked.confirmation_token
    )
    killed_behind_the_first_page(stage, stub, confirmation)
    assert stub.ConfirmWithdrawal(confirmation, timeout=60, wait_for_ready=True).state in {
        consent_pb2.CONSENT_STATE_DRAINING, consent_pb2.CONSENT_STATE_WITHDRAWN,
    }  # fmt: skip
    eventually(
        lambda: {binding for binding, _ in told(stage, "Released")} >= bound,
        scene.PATIENCE, what="the end of every binding",
    )  # fmt: skip
    drains, ends = told(stage, "Updated"), told(stage, "Released")
    assert Counter(drains) == Counter((binding, 0) for binding in bound)
    reason = binding_pb2.RELEASE_REASON_CONSENT_WITHDRAWN
    assert Counter(ends) == Counter((binding, reason) for binding in bound)
    number = results[-1].binding.number.rpartition("/")[2]
    routes(stage, a, number, "RELEASED")
    scene.sound(stage.cluster)


def granted(stub: consent_service_pb2_grpc.ConsentServiceStub, tenant: str, person: str) -> str:
    policy = consent_pb2.ConsentPolicy(
        name=f"{tenant}/consentPolicy", parties=consent_pb2.CONSENT_PARTIES_A,
        grace=Duration(seconds=1),
    )  # fmt: skip
    stub.SetConsentPolicy(consent_service_pb2.SetConsentPolicyRequest(policy=policy))
    asked = consent_service_pb2.GrantConsentRequest(
        parent=tenant, request_id=str(uuid.uuid4()), person=PhoneNumber(e164=person),
        terms_version="terms-3", channel="app", evidence_ref="scan/1",
    )  # fmt: skip
    return str(stub.GrantConsent(asked).name)


def killed_behind_the_first_page(
    stage: Scene,
    stub: consent_service_pb2_grpc.ConsentServiceStub,
    confirmation: consent_service_pb2.ConfirmWithdrawalRequest,
) -> None:
    kafka, binding = stage.cluster.brokers.kafka.child, stage.cluster.services["binding"]
    url = stage.cluster.brokers.valkey.url
    with redis.Redis.from_url(url) as store, ThreadPoolExecutor(1) as pool:
        kafka.signal(SIGSTOP)
        try:
            pool.submit(stub.ConfirmWithdrawal, confirmation, timeout=60)
            eventually(
                lambda: store.xlen(OUTBOX) > PAGE, scene.PATIENCE, what="the first page"
            )  # the confirmation and a page of bindings
            binding.kill()
            assert store.xlen(OUTBOX) < BINDINGS
        finally:
            kafka.signal(SIGCONT)
        binding.start()
    stage.cluster.await_ready("binding")


def told(stage: Scene, kind: str) -> list[tuple[str, int]]:
    """Binding and reason of each event of the kind; what was published again counts once."""
    found = dict[str, tuple[str, int]]()
    for record in stage.records("binding.bindings.v1"):
        headers = dict(record.headers)
        name = (headers["ce_type"] or b"").decode().rpartition(".")[2]
        if name == f"Binding{kind}":
            event = getattr(events_pb2, name).FromString(record.value or b"")
            identity = (headers["ce_id"] or b"").decode()
            found[identity] = (event.fact.binding, getattr(event, "reason", 0))
    return list(found.values())
