"""BlacklistService's gRPC edge: parse, call, render. No rule about blacklists stands here.

Refuses tenants with several cells. Invariant: each call waits no longer than its own deadline.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from axbridge.binding.v1 import blacklist_pb2, blacklist_service_pb2, blacklist_service_pb2_grpc

from services.binding import blacklisttranslate as translate
from services.binding.blacklists import BlacklistHandlers
from services.binding.fields import deadline
from services.runtime.clock import Clock
from services.runtime.errors import Unimplemented


class BlacklistServicer(blacklist_service_pb2_grpc.BlacklistServiceServicer):
    """Serves axbridge.binding.v1.BlacklistService."""

    def __init__(
        self,
        handlers: Mapping[str, BlacklistHandlers],
        cells_of: Callable[[str], Sequence[str]],
        clock: Clock,
    ) -> None:
        self._cells = handlers
        self._cells_of = cells_of
        self._clock = clock

    def _of(self, tenant: str) -> BlacklistHandlers:
        """Of the tenant's cell. Of several cells each would have to know every entry, and an answer
        would promise what another cell may not yet keep. Raises Unimplemented."""
        cells = self._cells_of(tenant)
        if len(cells) != 1:
            raise Unimplemented("BLACKLIST_NEEDS_ONE_CELL", "the tenant has several cells")
        return self._cells[cells[0]]

    async def AddBlacklistEntry(
        self, request: blacklist_service_pb2.AddBlacklistEntryRequest, context: Any
    ) -> blacklist_pb2.BlacklistEntry:
        by = deadline(context, self._clock)
        wish = translate.add(request)
        return translate.resource(await self._of(wish.tenant).add(wish, by))

    async def GetBlacklistEntry(
        self, request: blacklist_service_pb2.GetBlacklistEntryRequest, context: Any
    ) -> blacklist_pb2.BlacklistEntry:
        tenant, entry = translate.name(request.name)
        return translate.resource(await self._of(tenant).get(tenant, entry))

    async def RemoveBlacklistEntry(
        self, request: blacklist_service_pb2.RemoveBlacklistEntryRequest, context: Any
    ) -> blacklist_pb2.BlacklistEntry:
        by = deadline(context, self._clock)
        tenant, entry = translate.name(request.name)
        return translate.resource(await self._of(tenant).remove(tenant, entry, by))

    async def ListBlacklistEntries(
        self, request: blacklist_service_pb2.ListBlacklistEntriesRequest, context: Any
    ) -> blacklist_service_pb2.ListBlacklistEntriesResponse:
        wish = translate.listing(request)
        page, token = await self._of(wish.tenant).list(*wish)
        return blacklist_service_pb2.ListBlacklistEntriesResponse(
            entries=map(translate.resource, page), next_page_token=token
        )
