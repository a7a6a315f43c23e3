"""ConsentService's gRPC edge: parse, call, render. No rule about consents stands here.

Refuses nothing by itself. Invariant: each call waits no longer than its own deadline.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from axbridge.binding.v1 import consent_pb2, consent_service_pb2, consent_service_pb2_grpc

from services.binding import consenttranslate as translate
from services.binding.consentmessages import policy_message
from services.binding.consents import ConsentHandlers
from services.binding.fields import deadline
from services.runtime.clock import Clock
from services.runtime.errors import Unimplemented


class ConsentServicer(consent_service_pb2_grpc.ConsentServiceServicer):
    """Serves axbridge.binding.v1.ConsentService."""

    def __init__(
        self,
        handlers: Mapping[str, ConsentHandlers],
        cells_of: Callable[[str], Sequence[str]],
        clock: Clock,
    ) -> None:
        self._cells = handlers
        self._cells_of = cells_of
        self._clock = clock

    def _of(self, tenant: str) -> ConsentHandlers:
        """Of the tenant's cell. Of several cells each would have to know every person; refused
        until they do. Raises Unimplemented."""
        cells = self._cells_of(tenant)
        if len(cells) != 1:
            raise Unimplemented("UNIMPLEMENTED", "no consents for tenants with several cells")
        return self._cells[cells[0]]

    async def GrantConsent(
        self, request: consent_service_pb2.GrantConsentRequest, context: Any
    ) -> consent_pb2.Consent:
        by = deadline(context, self._clock)
        wish = translate.grant(request)
        return translate.resource(await self._of(wish.tenant).grant(wish, by))

    async def GetConsent(
        self, request: consent_service_pb2.GetConsentRequest, context: Any
    ) -> consent_pb2.Consent:
        tenant, consent = translate.name(request.name)
        return translate.resource(await self._of(tenant).get(tenant, consent))

    async def ListConsents(
        self, request: consent_service_pb2.ListConsentsRequest, context: Any
    ) -> consent_service_pb2.ListConsentsResponse:
        wish = translate.listing(request)
        page, token = await self._of(wish.tenant).list(*wish)
        return consent_service_pb2.ListConsentsResponse(
            consents=map(translate.resource, page), next_page_token=token
        )

    async def WithdrawConsent(
        self, request: consent_service_pb2.WithdrawConsentRequest, context: Any
    ) -> consent_service_pb2.WithdrawConsentResponse:
        by = deadline(context, self._clock)
        wish = translate.withdraw(request)
        asked = await self._of(wish[0]).withdraw(*wish, by)
        return translate.asked_response(asked)

    async def ConfirmWithdrawal(
        self, request: consent_service_pb2.ConfirmWithdrawalRequest, context: Any
    ) -> consent_pb2.Consent:
        by = deadline(context, self._clock)
        wish = translate.confirm(request)
        return translate.resource(await self._of(wish[0]).confirm(*wish, by))

    async def ListConsentBindings(
        self, request: consent_service_pb2.ListConsentBindingsRequest, context: Any
    ) -> consent_service_pb2.ListConsentBindingsResponse:
        tenant, consent, limit, page_token = translate.bindings(request)
        page, token = await self._of(tenant).bindings(tenant, consent, limit, page_token)
        return consent_service_pb2.ListConsentBindingsResponse(
            bindings=translate.binding_names(tenant, page), next_page_token=token
        )

    async def GetConsentPolicy(
        self, request: consent_service_pb2.GetConsentPolicyRequest, context: Any
    ) -> consent_pb2.ConsentPolicy:
        tenant = translate.policy_name(request.name)
        return policy_message(await self._of(tenant).policy(tenant))

    async def SetConsentPolicy(
        self, request: consent_service_pb2.SetConsentPolicyRequest, context: Any
    ) -> consent_pb2.ConsentPolicy:
        by = deadline(context, self._clock)
        wish = translate.policy(request)
        return policy_message(await self._of(wish.tenant).set_policy(wish, by))
