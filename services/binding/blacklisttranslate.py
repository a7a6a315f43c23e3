"""BlacklistService's protos to the domain and back. Pure and total: any message gives a value or
InvalidArgument.

Refuses to repeat in an error what a request held. Invariant: what leaves here as a resource holds
no real number and no tag.
"""

import re
from typing import Final, NamedTuple

from axbridge.binding.v1 import blacklist_pb2, blacklist_service_pb2

from services.binding.blacklists import Add, Seen
from services.binding.fields import (
    SEGMENT,
    TENANT,
    UUID,
    expiry,
    invalid,
    matched,
    page_size,
    pool_of,
)
from services.binding.messages import timestamp
from services.runtime.errors import InvalidArgument
from services.runtime.ids import request_id
from services.runtime.phone import PhoneNumber, parse_party

_NAME: Final = re.compile(rf"tenants/({SEGMENT})/blacklistEntries/({UUID})", re.ASCII)


class Listing(NamedTuple):
    """A page of entries. `number` None: of all."""

    tenant: str
    number: PhoneNumber | None
    limit: int
    token: str


def add(request: blacklist_service_pb2.AddBlacklistEntryRequest) -> Add:
    """Raises InvalidArgument: REQUEST_ID_INVALID, PARTY_NUMBER_…, PARTIES_EQUAL, EXPIRY_PAST,
    INVALID_FIELD."""
    tenant = matched(TENANT, request.parent, "parent")[1]
    identity = request_id(request.request_id)
    callee = None
    match request.WhichOneof("target"):
        case "number":
            caller = parse_party(request.number.e164, "number")
        case "pair":
            caller = parse_party(request.pair.caller.e164, "pair.caller")
            callee = parse_party(request.pair.callee.e164, "pair.callee")
            if callee == caller:
                raise InvalidArgument("PARTIES_EQUAL", "caller and callee are the same number")
        case _:
            invalid("target")
    return Add(
        tenant,
        identity,
        caller,
        callee,
        pool_of(tenant, request.pool) if request.pool else "",
        expiry(request.HasField("expire_time"), request.expire_time),
    )


def listing(request: blacklist_service_pb2.ListBlacklistEntriesRequest) -> Listing:
    """Raises InvalidArgument: PARTY_NUMBER_…, INVALID_FIELD."""
    tenant = matched(TENANT, request.parent, "parent")[1]
    number = parse_party(request.number.e164, "number") if request.HasField("number") else None
    return Listing(tenant, number, page_size(request.page_size), request.page_token)


def name(full: str) -> tuple[str, str]:
    """Tenant and entry id of a resource name. Raises InvalidArgument: INVALID_FIELD."""
    found = matched(_NAME, full, "name")
    return found[1], found[2]


def resource(seen: Seen) -> blacklist_pb2.BlacklistEntry:
    """The entry as answered."""
    entry = seen.entry
    return blacklist_pb2.BlacklistEntry(
        name=f"tenants/{entry.tenant}/blacklistEntries/{entry.id}",
        kind=blacklist_pb2.BlacklistKind.ValueType(entry.target.kind),
        pool=entry.target.pool,
        state=blacklist_pb2.BlacklistEntryState.ValueType(seen.state),
        create_time=timestamp(entry.create_ms),
        expire_time=timestamp(entry.expire_ms),
        end_time=timestamp(entry.end_ms),
        version=entry.version,
    )
