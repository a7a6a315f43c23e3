"""Who says whether a call's order is genuine: a platform asked over gRPC, or a file of this pod's.

Both implement ports.Verifier. Refuse to name a real number to anybody. Invariant: whatever goes
wrong with either is Unverified, never a verdict.
"""

import json
import threading
from pathlib import Path
from typing import Final

import grpc
from axbridge.verifier.v1 import verifier_service_pb2 as pb
from axbridge.verifier.v1 import verifier_service_pb2_grpc

from services.router.domain import Decision
from services.router.ports import Unverified, Verifier
from services.router.settings import RouterSettings
from services.router.translate import write_timestamp
from services.router.verification import Policy, Verification
from services.runtime.clock import Clock
from services.runtime.registration import CHANNEL_OPTIONS

_LONGEST_MS: Final = 24 * 3600 * 1000  # that a verdict is taken to hold


def verification(settings: RouterSettings, clock: Clock) -> Verification | None:
    """What the settings say; None: nobody is asked."""
    if not settings.verified:
        return None
    verifier: Verifier
    if settings.verifier_file is not None:
        verifier = LocalVerifier(settings.verifier_file)
    else:
        verifier = RemoteVerifier(settings.verifier_target, settings.verifier_budget_ms)
    return Verification(verifier, Policy(settings.verifier_policy), clock)


class RemoteVerifier:
    """Asks axbridge.verifier.v1.VerifierService, and waits for the budget at most."""

    def __init__(self, target: str, budget_ms: int) -> None:
        channel = grpc.insecure_channel(target, options=CHANNEL_OPTIONS)  # for the process's life
        self._ask = verifier_service_pb2_grpc.VerifierServiceStub(channel).VerifyCall
        self._seconds = budget_ms / 1000

    def verify(self, decision: Decision) -> tuple[bool, int]:
        entry = decision.entry
        assert entry is not None  # else it is refused
        request = pb.VerifyCallRequest(
            carrier=decision.call.carrier, call_id=decision.call.call_id, number=decision.number,
            tenant=entry.tenant, binding=entry.binding, binding_version=entry.version,
            industry_id=entry.industry_id, calling_party=entry.caller_side,  # type: ignore[arg-type]
        )  # fmt: skip
        write_timestamp(request.decide_time, decision.time_ms)
        try:
            answer = self._ask(request, timeout=self._seconds)
        except grpc.RpcError:
            raise Unverified from None
        if answer.verdict not in (pb.VERDICT_GENUINE, pb.VERDICT_NOT_GENUINE):
            raise Unverified
        span = answer.valid_for
        valid_ms = span.seconds * 1000 + span.nanos // 1_000_000
        return answer.verdict == pb.VERDICT_GENUINE, min(max(0, valid_ms), _LONGEST_MS)


class LocalVerifier:
    """Reads a JSON file, anew when it changes: `{"tenants": […], "industry_ids": […], "bindings":
    ["tenant/binding"]}`, all of which are not genuine; everything else is."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        self._stamp: tuple[int, int] | None = None
        self._named: frozenset[tuple[str, str]] = frozenset()

    def verify(self, decision: Decision) -> tuple[bool, int]:
        entry = decision.entry
        assert entry is not None
        named = self._read()
        found = named & {
            ("tenants", entry.tenant), ("industry_ids", entry.industry_id),
            ("bindings", f"{entry.tenant}/{entry.binding}"),
        }  # fmt: skip
        return not found, 0

    def _read(self) -> frozenset[tuple[str, str]]:
        try:
            status = self._path.stat()
            stamp = status.st_mtime_ns, status.st_ino
            with self._lock:
                if stamp != self._stamp:
                    given = json.loads(self._path.read_text("utf-8"))
                    if not set(given) <= {"tenants", "industry_ids", "bindings"}:
                        raise Unverified
                    self._named = frozenset(
                        (kind, str(name)) for kind, names in given.items() for name in names
                    )
                    self._stamp = stamp
                return self._named
        except (OSError, ValueError, TypeError, AttributeError):
            raise Unverified from None
