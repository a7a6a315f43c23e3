"""A withdrawal over all processes: calls go on through the grace period, then the release reaches
every router and the log (R4, R5)."""

import uuid

from axbridge.binding.v1 import consent_pb2, consent_service_pb2, consent_service_pb2_grpc
from axbridge.type.v1.phone_number_pb2 import PhoneNumber
from google.protobuf.duration_pb2 import Duration

from deploy.local.waiting import eventually
from tests import scene
from tests.scene import Scene, digits, refusal, routes, uuid_of

pb = consent_service_pb2
GRACE_SECONDS = 3


def test_a_withdrawal_ends_calls_after_the_grace_period(stage: Scene) -> None:
    stage.pool("rides")
    stub = consent_service_pb2_grpc.ConsentServiceStub(stage.platform.channel)
    tenant, a, b = f"tenants/{stage.tenant}", stage.mobile(), stage.mobile()
    policy = consent_pb2.ConsentPolicy(
        name=f"{tenant}/consentPolicy",
        parties=consent_pb2.CONSENT_PARTIES_A,
        grace=Duration(seconds=GRACE_SECONDS),
    )
    stub.SetConsentPolicy(pb.SetConsentPolicyRequest(policy=policy))
    missing = refusal(lambda: stage.platform.bind("rides", a, b, "trip-1"))
    assert missing[1] == "CONSENT_MISSING"
    consent = stub.GrantConsent(
        pb.GrantConsentRequest(
            parent=tenant,
            request_id=str(uuid.uuid4()),
            person=PhoneNumber(e164=a),
            terms_version="terms-3",
            channel="app",
            evidence_ref="scan/1",
        )
    )
    binding = stage.platform.bind("rides", a, b, "trip-1")
    assert binding.consent_a == consent.name
    routes(stage, a, digits(binding), b)
    asked = stub.WithdrawConsent(
        pb.WithdrawConsentRequest(name=consent.name, request_id=str(uuid.uuid4()))
    )
    assert list(asked.bindings) == [binding.name]
    stub.ConfirmWithdrawal(
        pb.ConfirmWithdrawalRequest(
            name=consent.name,
            request_id=str(uuid.uuid4()),
            confirmation_token=asked.confirmation_token,
        )
    )
    assert refusal(lambda: stage.platform.bind("rides", a, b, "trip-2"))[1] == "CONSENT_MISSING"
    for party in (a, b):
        routes(stage, party, digits(binding), "RELEASED")

    def told() -> list[str]:
        events = stage.auditor.query(binding=uuid_of(binding))
        return [event.entry.type.rpartition(".")[2] for event in events]

    wanted = ["BindingCreated", "BindingUpdated", "BindingReleased"]
    eventually(
        lambda: [kind for kind in told() if kind in wanted] == wanted,
        scene.PATIENCE,
        what="a log that tells of the drain and the release, once each",
    )
    kinds = {"ConsentGranted", "ConsentWithdrawalRequested", "ConsentWithdrawn", "ConsentDrained"}
    eventually(
        lambda: all(
            stage.auditor.query(tenant=stage.tenant, type=f"axbridge.binding.v1.{kind}")
            for kind in kinds
        ),
        scene.PATIENCE,
        what="a log that tells of the consent",
    )
    scene.sound(stage.cluster)
