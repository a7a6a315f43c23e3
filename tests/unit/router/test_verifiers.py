"""Who says whether an order is genuine: a real gRPC server, and a file that changes."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from axbridge.verifier.v1 import verifier_service_pb2 as pb
from axbridge.verifier.v1 import verifier_service_pb2_grpc

from services.router.ports import Unverified
from services.router.settings import RouterSettings
from services.router.verification import Verification
from services.router.verifiers import LocalVerifier, RemoteVerifier, verification
from services.runtime.clock import SystemClock
from tests.unit.router.decisions import NUMBER, decision


class Platform(verifier_service_pb2_grpc.VerifierServiceServicer):
    """Answers what it is told to."""

    def __init__(self) -> None:
        self.asked: list[pb.VerifyCallRequest] = []
        self.answer = pb.VerifyCallResponse(verdict=pb.VERDICT_GENUINE)
        self.silent, self.over = False, threading.Event()

    def VerifyCall(self, request: pb.VerifyCallRequest, context: Any) -> pb.VerifyCallResponse:
        self.asked.append(request)
        if self.silent:
            self.over.wait(10)
        return self.answer


@pytest.fixture
def platform() -> Iterator[SimpleNamespace]:
    served = Platform()
    server = grpc.server(ThreadPoolExecutor(4))
    verifier_service_pb2_grpc.add_VerifierServiceServicer_to_server(served, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield SimpleNamespace(served=served, target=f"127.0.0.1:{port}")
    served.over.set()
    server.stop(None).wait()


def test_the_platform_is_told_of_the_binding_and_of_no_real_number(
    platform: SimpleNamespace,
) -> None:
    verifier = RemoteVerifier(platform.target, 5000)
    platform.served.answer.valid_for.seconds = 3
    assert verifier.verify(decision()) == (True, 3000)
    [asked] = platform.served.asked
    assert (asked.number, asked.tenant, asked.binding) == (NUMBER, "t1", "b1")
    assert (asked.industry_id, asked.calling_party) == ("taxi", pb.CALLING_PARTY_A)
    assert b"13812345678" not in asked.SerializeToString()
    assert b"13912345678" not in asked.SerializeToString()
    platform.served.answer = pb.VerifyCallResponse(verdict=pb.VERDICT_NOT_GENUINE)
    assert verifier.verify(decision()) == (False, 0)


def test_no_verdict_is_unverified(platform: SimpleNamespace) -> None:
    platform.served.answer = pb.VerifyCallResponse()
    with pytest.raises(Unverified):
        RemoteVerifier(platform.target, 5000).verify(decision())
    platform.served.silent = True
    with pytest.raises(Unverified):
        RemoteVerifier(platform.target, 20).verify(decision())


def test_the_file_names_what_is_not_genuine_and_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "verifier.json"
    verifier = LocalVerifier(path)
    with pytest.raises(Unverified):
        verifier.verify(decision())
    for number, (named, genuine) in enumerate([
        ({}, True), ({"tenants": ["t1"]}, False), ({"tenants": ["t2"]}, True),
        ({"industry_ids": ["taxi"]}, False), ({"bindings": ["t1/b1"]}, False),
        ({"bindings": ["t2/b1"]}, True),
    ]):  # fmt: skip
        new = tmp_path / f"{number}.json"
        new.write_text(json.dumps(named))
        new.replace(path)
        assert verifier.verify(decision()) == (genuine, 0)


@pytest.mark.parametrize("text", ["", "[]", '{"tenant": []}', '{"tenants": 7}'])
def test_a_file_that_is_not_understood_is_no_verdict(tmp_path: Path, text: str) -> None:
    path = tmp_path / "verifier.json"
    path.write_text(text)
    with pytest.raises(Unverified):
        LocalVerifier(path).verify(decision())


def test_settings_name_one_verifier_or_none(tmp_path: Path) -> None:
    def settings(**more: object) -> RouterSettings:
        return RouterSettings(
            kafka_bootstrap="k:1", data_dir=tmp_path, keyring_dir=tmp_path,
            evidence_public_key=tmp_path, **more,  # type: ignore[arg-type]
        )  # fmt: skip

    clock = SystemClock()
    assert verification(settings(), clock) is None
    assert isinstance(verification(settings(verifier_file="v.json"), clock), Verification)
    assert isinstance(verification(settings(verifier_target="v:1"), clock), Verification)
    with pytest.raises(ValueError, match="a target or a file"):
        settings(verifier_file="v.json", verifier_target="v:1")
