"""The gRPC edge of RetentionService: parse, call, render.

Refuses nothing by itself. Invariant: no real number leaves here, but sealed to whom the request
names.
"""

import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Final

from axbridge.binding.v1 import retention_pb2, retention_service_pb2, retention_service_pb2_grpc

from services.binding import translate
from services.binding.erasure import Erasures
from services.binding.export import Exports
from services.binding.holds import Holds
from services.runtime.errors import InvalidArgument
from services.runtime.ids import request_id
from services.runtime.phone import parse_party

_HOLD: Final = re.compile(r"tenants/([a-z][a-z0-9-]{0,31})/legalHolds/([a-z0-9-]{1,32})", re.ASCII)
_LONGEST_REFERENCE: Final = 64
_MOST_HELD: Final = 200
_TENANT: Final = re.compile(r"tenants/([a-z][a-z0-9-]{0,31})", re.ASCII)


class RetentionServicer(retention_service_pb2_grpc.RetentionServiceServicer):
    """Serves axbridge.binding.v1.RetentionService."""

    def __init__(
        self,
        erasures: Mapping[str, Erasures],
        exports: Exports,
        holds: Mapping[str, Holds],
        cells_of: Callable[[str], Sequence[str]],
    ) -> None:
        self._erasures = erasures
        self._exports = exports
        self._holds = holds
        self._cells_of = cells_of

    async def EraseSubject(
        self, request: retention_service_pb2.EraseSubjectRequest, context: Any
    ) -> retention_pb2.Erasure:
        tenant, asked = _tenant(request.parent), request_id(request.request_id)
        party = parse_party(request.party.e164, "party")
        # A party may be in any of the tenant's cells; each remembers the request.
        each = [
            await self._erasures[cell].erase(tenant, party, asked)
            for cell in self._cells_of(tenant)
        ]
        answer = max(each, key=lambda erasure: erasure.erase_time.ToNanoseconds())
        answer.name = each[0].name
        answer.binding_count = sum(erasure.binding_count for erasure in each)
        answer.consent_count = sum(erasure.consent_count for erasure in each)
        return answer

    async def ExportSubject(
        self, request: retention_service_pb2.ExportSubjectRequest, context: Any
    ) -> AsyncIterator[retention_service_pb2.ExportSubjectResponse]:
        tenant, asked = _tenant(request.parent), request_id(request.request_id)
        party = parse_party(request.party.e164, "party")
        if len(request.recipient_key) != 32:
            raise _invalid("recipient_key")
        async for box in self._exports.export(tenant, party, asked, request.recipient_key):
            yield retention_service_pb2.ExportSubjectResponse(box=box)

    async def SetLegalHold(
        self, request: retention_service_pb2.SetLegalHoldRequest, context: Any
    ) -> retention_pb2.LegalHold:
        tenant, case = _hold(request.name)
        reference = request.reference
        if not 1 <= len(reference) <= _LONGEST_REFERENCE or not reference.isprintable():
            raise _invalid("reference")
        names = [translate.name(each) for each in request.bindings]
        ids = list(dict.fromkeys(binding for _, binding in names))
        if not 1 <= len(ids) <= _MOST_HELD or {owner for owner, _ in names} != {tenant}:
            raise _invalid("bindings")
        return await self._of(tenant).keep(tenant, case, reference, ids)

    async def ReleaseLegalHold(
        self, request: retention_service_pb2.ReleaseLegalHoldRequest, context: Any
    ) -> retention_pb2.LegalHold:
        tenant, case = _hold(request.name)
        return await self._of(tenant).release(tenant, case)

    def _of(self, tenant: str) -> Holds:
        return self._holds[self._cells_of(tenant)[0]]  # holds live in the tenant's first cell


def _hold(name: str) -> tuple[str, str]:
    found = _HOLD.fullmatch(name)
    if found is None:
        raise _invalid("name")
    return found[1], found[2]


def _tenant(parent: str) -> str:
    found = _TENANT.fullmatch(parent)
    if found is None:
        raise _invalid("parent")
    return found[1]


def _invalid(field: str) -> InvalidArgument:
    return InvalidArgument("INVALID_FIELD", "a field is missing or malformed", field=field)
